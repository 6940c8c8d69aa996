// Live updates: one socket a page. The protocol is in the design guide, §13; apps/live is the other end.
//
// <main data-live="/ws/organization/">
//   <tr id="row-job_01" data-topic="job.job_01" data-at="1486">     state: the newest version wins
//   <span id="job-text" data-topic="job.job_01.out.1" data-at="9">  text: added at an offset in UTF-16 code units
//   <b data-f="job.job_01.done">                                    a field that `set` messages fill
//
// `data-at` says what the server had rendered, so nothing is lost between the page and the first message. After a
// reconnect the page says where it stands and the server goes on from there.

const root = document.querySelector('[data-live]')
const page = document.documentElement
const bar = document.querySelector('.bar .live')
const RETRY_FIRST = 500, RETRY_MAX = 30_000, SILENT = 60_000, QUIET = 2_000, OFF_AFTER = 5
const POLL_AFTER = 3, POLL = 15_000, ASK = 1_000, CATCH_UP = 5_000
const SIGNED_OUT = 4401, NO_RIGHT = 4403

const words = JSON.parse(document.getElementById('words')?.textContent ?? '{}')   // portal/words.py; none: English
const word = (text, given = {}) => (words[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => given[name])

const at = new Map()       // topic → version, or length of the text
const waiting = new Map()  // topic → text not painted yet
const ended = new Map()    // topic → words of a text that is complete
const asked = new Map()    // topic → when a gap was asked for
let socket, timer, frame = 0, tries = 0, opened = false, leaving = false, lost = 0, polling = 0
let heard = Date.now(), ahead = null, returned = 0

const find = (attribute, value) => document.querySelectorAll(`[${attribute}="${CSS.escape(value)}"]`)
const clock = time => new Date(time).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })

// Where the page stands --------------------------------------------------------------------------------------------------

function topics() {
  for (const el of document.querySelectorAll('[data-topic]'))
    if (!at.has(el.dataset.topic)) at.set(el.dataset.topic, Number(el.dataset.at) || 0)
  for (const topic of at.keys()) if (!find('data-topic', topic).length) at.delete(topic)
  return Object.fromEntries(at)
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message))
}

const subscribe = () => send({ sub: topics() })

// Text -------------------------------------------------------------------------------------------------------------------

function append({ t, off, d, end }) {
  if (!find('data-topic', t).length) return
  const have = at.get(t) ?? 0
  if (off > have) {                            // a gap: ask for the missing part, once a second
    if (Date.now() - (asked.get(t) ?? 0) < ASK) return
    asked.set(t, Date.now())
    return send({ sub: { [t]: have } })
  }
  const rest = d.slice(have - off)             // an overlap: keep only what is new
  at.set(t, have + rest.length)
  if (rest) waiting.set(t, (waiting.get(t) ?? '') + rest)
  if (end !== undefined) ended.set(t, end)
  if (waiting.size || ended.size) frame ||= requestAnimationFrame(paint)
}

function paint() {         // once a frame, as text
  frame = 0
  for (const [topic, text] of waiting)
    for (const el of find('data-topic', topic)) {
      if (!el.textContent) say(el.id, word('Output started'))
      const box = el.closest('.stream') ?? el.parentElement
      const follows = document.querySelector('[data-follow]')?.checked
      const node = el.lastChild?.nodeType === Node.TEXT_NODE ? el.lastChild : el.appendChild(new Text(''))
      node.appendData(text)
      copies(document)
      if (follows) follow(box)
    }
  for (const [topic, count] of ended)
    for (const el of find('data-topic', topic)) {
      const box = el.closest('[aria-busy]')
      if (box?.getAttribute('aria-busy') === 'true') say(el.id, word('Output finished, {count} words', { count }))
      box?.setAttribute('aria-busy', 'false')
      box?.querySelector('.caret')?.remove()
    }
  waiting.clear()
  ended.clear()
}

// A text that is followed scrolls within its own box; the page stays where the reader has put it.
function follow(box) {
  if (!box.style.maxBlockSize) {
    Object.assign(box.style, { maxBlockSize: '60vh', overflowY: 'auto' })
    box.tabIndex = 0
  }
  box.scrollTop = box.scrollHeight
}

// A part that shows the newest of many (data-newest) is kept while its reader does not follow; then it comes anew.
function followed({ target }) {
  const part = target.closest('[data-newest]')
  if (!part || !target.matches('[data-follow]') || !target.checked) return
  at.set(part.dataset.topic, 0)
  subscribe()
}

function copies(within) {  // nothing to copy: no button
  for (const button of within.querySelectorAll('[data-copy]'))
    button.hidden = !document.getElementById(button.dataset.copy)?.textContent
}

function say(name, text) { // to those who cannot see it move
  for (const el of find('data-says', name)) el.textContent = text
}

// State ------------------------------------------------------------------------------------------------------------------

function update({ k, t, v, html, set }) {
  if (v <= (at.get(t) ?? 0)) return            // old news
  at.set(t, v)
  if (k === 'set') for (const [field, value] of Object.entries(set)) fill(`${t}.${field}`, value)
  else {
    const parts = document.createElement('template')   // a row comes in a table: a parser drops it elsewhere
    parts.innerHTML = html
    for (const part of [...parts.content.children]) for (const each of [...(part.rows ?? [part])]) put(each)
    subscribe()                                // a part may have brought topics of its own
  }
}

function fill(name, value) {
  for (const el of find('data-f', name))
    if (!(el instanceof HTMLProgressElement)) el.textContent = value
    else {
      const before = Math.floor(4 * el.position), now = Math.floor(4 * value / el.max)
      el.value = value
      if (now > before && 'announce' in el.dataset) say(name, `${25 * now}%`)
    }
}

function stand(part) {     // where the server had rendered it, which may be behind what was there
  for (const el of [part, ...part.querySelectorAll('[data-topic]')])
    if (el.dataset.topic) {
      at.set(el.dataset.topic, Number(el.dataset.at) || 0)
      waiting.delete(el.dataset.topic)
    }
}

function put(part) {       // in the place of the part with its id, if the page has that
  const old = document.getElementById(part.id)
  if (!old) return
  const choice = old.querySelector('[data-follow]'), follows = part.querySelector('[data-follow]')
  if ('newest' in old.dataset && choice?.checked === false && follows) return   // its reader stays with what is there
  stand(part)
  if (choice && follows) follows.checked = choice.checked
  const held = old.contains(document.activeElement) ? document.activeElement : null
  if (Date.now() - returned < CATCH_UP && old.dataset.phase && old.dataset.phase !== part.dataset.phase) caughtUp()
  const kept = held?.id && replaceAround(held, old, part)
  if (!kept) old.replaceWith(part)
  copies(document)
  clocks()
  htmx.process(kept ? old : part)
  if (!held || kept) return
  const next = document.getElementById(held.id) ?? part.querySelector('h1, h2, h3') ?? document.querySelector('h1')
  if (!next.matches('a, button, input, select, textarea, summary')) next.tabIndex = -1
  next.focus({ preventScroll: true })
}

// An element that holds focus stays where the new part has one like it: it and those it stands in take on what is new of
// them, and all around is replaced. What was typed into it stays too. False, and nothing done, where there is none.
function replaceAround(held, old, part) {
  const next = part.id === held.id ? part : part.querySelector(`#${CSS.escape(held.id)}`)
  const path = (leaf, top) => { const all = [leaf]; while (all[0] !== top) all.unshift(all[0].parentElement); return all }
  if (!next) return false
  const olds = path(held, old), news = path(next, part)
  if (olds.length !== news.length || olds.some((el, n) => el.tagName !== news[n].tagName)) return false
  for (const [n, el] of olds.entries()) {
    const fresh = news[n], inner = olds[n + 1]
    for (const { name } of [...el.attributes])
      if (!fresh.hasAttribute(name) && name !== 'open' && name !== 'tabindex') el.removeAttribute(name)
    for (const { name, value } of fresh.attributes) if (el.getAttribute(name) !== value) el.setAttribute(name, value)
    const nodes = [...fresh.childNodes], split = nodes.indexOf(news[n + 1])
    if (!inner) {
      if (el.innerHTML !== fresh.innerHTML) el.replaceChildren(...nodes)
      break
    }
    for (const node of [...el.childNodes]) if (node !== inner) node.remove()
    inner.before(...nodes.slice(0, split))
    inner.after(...nodes.slice(split + 1))
  }
  return true
}

// How it goes, in words --------------------------------------------------------------------------------------------------

function state(name, text) {
  page.dataset.liveState = name                // the style sheet greys figures out when this is "off"
  if (!bar || bar.textContent === text) return
  bar.dataset.state = name
  bar.textContent = text
}

function notice(id, kind, icon, strong, text, more = '') {
  document.getElementById(id)?.remove()
  const box = document.createElement('div')
  box.id = id
  box.className = `notice notice-${kind}`
  box.setAttribute('role', 'status')
  box.innerHTML = `<svg class="icon" aria-hidden="true"><use href="#i-${icon}"/></svg><p><strong>${strong}</strong> ${text}</p>${more}`
  root.prepend(box)
}

function caughtUp() {
  returned = 0
  notice('live-caught-up', 'ok', 'check', word('Caught up.'), word('What changed while the connection was away is on the page now.'))
}

function online() {
  returned = lost && Date.now() - lost > QUIET ? Date.now() : 0
  tries = lost = 0
  opened = true
  polling = clearInterval(polling) ?? 0
  document.getElementById('live-offline')?.remove()
  state('on', word('Live'))
}

function offline() {       // after a close, and again while it lasts
  lost ||= Date.now()
  if (polling) return
  if (!opened && tries >= POLL_AFTER) return poll()
  if (tries >= OFF_AFTER) {
    state('off', word('Offline since {time}', { time: clock(heard) }))
    if (!document.getElementById('live-offline'))
      notice('live-offline', 'warn', 'alert', word('Live updates paused at {time}.', { time: clock(heard) }),
        word('Your work keeps running. Figures below are from that time; we are trying to reconnect.'), `<a class="btn btn-small" href="">${word('Reload now')}</a>`)
  } else if (Date.now() - lost >= QUIET) state('retry', word('Reconnecting'))
}

// Without sockets: something on the way blocks them. The parts are fetched with the page.
function poll() {
  state('poll', word('Updates every 15 s'))
  polling = setInterval(async () => {
    if (document.hidden) return
    try {
      const answer = await fetch(location.href, { headers: { Accept: 'text/html', 'X-Unattended': '1' } })
      if (!answer.ok || answer.redirected) return
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html')
      for (const part of fresh.querySelectorAll('[data-part], [data-topic][id]'))
        if (!part.matches('[data-failed]') && !part.parentElement.closest('[data-part]')) put(document.importNode(part, true))
      heard = Date.now()
    } catch { /* the next one */ }
  }, POLL)
}

// The socket -------------------------------------------------------------------------------------------------------------

function connect() {
  clearTimeout(timer)
  const url = new URL(root.dataset.live, location.href)
  url.protocol = url.protocol.replace('http', 'ws')
  socket = new WebSocket(url)
  socket.onopen = () => {
    heard = Date.now()
    subscribe()
    if (document.hidden) send({ hidden: true })
  }
  socket.onmessage = event => {
    heard = Date.now()
    if (tries || !opened) online()             // a message, not the opening: a proxy may open what it cannot carry
    const message = JSON.parse(event.data)
    if (message.k === 'add') append(message)
    else if (message.k === 'ping') ahead = Math.max(ahead ?? -Infinity, message.now - performance.now())
    else update(message)
  }
  socket.onclose = ({ code }) => {
    if (leaving) return
    if (code === SIGNED_OUT) return location.reload()   // the page shows the sign-in
    if (code === NO_RIGHT) {
      state('off', word('Not live'))
      return notice('live-offline', 'warn', 'alert', word('You have no access to this any more.'),
        word('Figures below are from {time}. An owner of the organization can change that.', { time: clock(heard) }))
    }
    tries += 1
    offline()
    timer = setTimeout(connect, Math.min(RETRY_MAX, RETRY_FIRST * 2 ** (tries - 1)) * (0.7 + Math.random() * 0.6))
  }
}

function again() {         // the network or the tab came back: do not wait for the timer
  if (socket.readyState <= WebSocket.OPEN && Date.now() - heard < SILENT) return
  socket.onclose = socket.onmessage = null
  socket.close()
  tries = Math.max(1, tries)
  lost ||= heard
  connect()
}

function tick() {
  if (lost) offline()
  if (socket.readyState === WebSocket.OPEN && Date.now() - heard > SILENT) again()
  clocks()
}

// Clocks count from the server's time: <b data-clock="Unix seconds">. A message is late by its way here, so the largest
// difference seen is the nearest; it only grows, and the clock of the page never goes back: no clock shows less than before.
function clocks() {
  if (ahead === null) return
  for (const el of document.querySelectorAll('[data-clock]'))
    el.textContent = duration(Math.max(0, Math.floor((performance.now() + ahead) / 1000) - Number(el.dataset.clock)))
}

function duration(seconds) {
  if (seconds < 60) return `${seconds}\u00a0s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 60) return `${minutes}\u00a0min`
  return `${Math.floor(minutes / 60)}\u00a0h${minutes % 60 ? `\u00a0${minutes % 60}\u00a0min` : ''}`
}

// A part that was tried again is there now: who asked for it goes on at its heading. Where it failed again htmx keeps the focus.
function retried({ detail: { requestConfig } }) {
  const name = requestConfig?.elt?.id ?? ''
  if (!name.startsWith('retry-') || document.getElementById(name)) return
  const heading = document.getElementById(name.slice('retry-'.length))?.querySelector('h2, dt')
  if (!heading) return
  heading.tabIndex = -1
  heading.focus({ preventScroll: true })
}

// A part that is no longer on the page, such as one that another role does not see: nothing would come in its place.
function gone(event) {
  const { requestConfig, serverResponse, shouldSwap } = event.detail
  const select = requestConfig?.elt?.getAttribute('hx-select')
  if (!shouldSwap || !select || new DOMParser().parseFromString(serverResponse, 'text/html').querySelector(select)) return
  event.preventDefault()
  location.reload()
}

if (root) {
  copies(document)
  connect()
  setInterval(tick, 1000)
  addEventListener('online', again)
  document.addEventListener('visibilitychange', () => { send({ hidden: document.hidden }); document.hidden || again() })
  document.addEventListener('htmx:beforeSwap', gone)
  document.addEventListener('htmx:load', ({ target }) => target === document.body || stand(target))   // swapped in
  document.addEventListener('htmx:afterSettle', subscribe)
  document.addEventListener('htmx:afterSettle', retried)
  document.addEventListener('change', followed)
  addEventListener('pagehide', () => { leaving = true; socket.close() })
  addEventListener('pageshow', event => { if (event.persisted) { leaving = false; connect() } })
}
