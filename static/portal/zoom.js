// The explorer's chart, to zoom into: uPlot draws the bars in the place of the server's SVG, which stands where this does not run.
// Words and figures are the page's: the chart's table says each bar, #plot how long it is (UsagePage.plot in apps/jobs).
const words = JSON.parse(document.getElementById('words')?.textContent ?? '{}')   // portal/words.py; none: English
const word = (text, given = {}) => (words[text] ?? text).replace(/\{(\w+)\}/g, (_, name) => given[name])
const between = (low, value, high) => Math.max(low, Math.min(value, high))
const element = (name, className, ...children) => {
  const made = document.createElement(name)
  made.className = className
  made.append(...children)
  return made
}

const BAR = 0.8            // of its room, as on the server
const DRAG = 6             // pixels; less is a click
const TIP = 8              // pixels from its bar
const RANGE = ['range', 'bars', 'start', 'end', 'first_hour', 'last_hour']   // of an address
const SCHEMES = ['(prefers-color-scheme: dark)', '(prefers-contrast: more)', '(forced-colors: active)']
let chart = null

class Chart {
  constructor(body, plot) {
    this.body = body
    this.plot = plot
    this.svg = body.querySelector('svg.plot')
    this.names = [...body.querySelectorAll('.chart-data thead th')].map(cell => cell.textContent)
    this.rows = [...body.querySelectorAll('.chart-data tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))
    this.days = plot.days ?? this.rows.map(([moment]) => [moment, moment])   // with which a bar begins and ends
    this.newest = this.rows.length - 1
    this.first = 0                             // and the last bar that are shown
    this.last = this.newest
    this.at = this.newest                      // the bar that is looked at
    this.axis = plot.axes[0]                   // of what is shown: that of its highest bar
    this.marked = this.dragged = null          // bars and pixels where a choice began
    this.keyed = false                         // it is looked at with the keyboard
    this.stack()
    this.build()
    this.listen()
    this.show(0, this.newest)
    body.dataset.ready = ''
  }

  // What is drawn --------------------------------------------------------------------------------------------------------

  stack() {                // each part of a bar begins where the one below ends
    let floor = this.rows.map(() => 0)
    this.parts = this.plot.series.map(({ number, values }) => {
      const part = { number, values, floor, top: floor.map((value, n) => value + values[n]) }
      floor = part.top
      return part
    })
    this.totals = floor
  }

  build() {
    this.tip = element('div', 'chart-tip')
    this.tip.hidden = true
    this.band = element('div', 'chart-band')
    this.band.hidden = true
    this.box = element('div', 'plot plot-m zoom')
    for (const [name, value] of Object.entries({
      role: 'slider', tabindex: 0, 'aria-labelledby': 'chart-h', 'aria-describedby': 'plot-desc plot-keys',
      'aria-valuemin': 1, 'aria-valuemax': this.newest + 1,
    })) this.box.setAttribute(name, value)
    this.svg.after(this.box)
    this.svg.setAttribute('hidden', '')
    this.u = new uPlot({
      width: this.box.clientWidth,
      height: this.box.clientHeight,
      padding: [0, 0, 0, 0],
      legend: { show: false },
      axes: [{ show: false }, { show: false }],
      cursor: { show: false },                 // what it would do with a mouse is done here for every pointer
      scales: { x: { time: false, range: () => [this.first - 0.5, this.last + 0.5] }, y: { range: () => [0, this.axis.top] } },
      series: [{}, ...this.parts.map(part => this.series(part))],
      hooks: {
        drawClear: [() => this.lines()],
        draw: [() => { this.choose(this.marked); this.place() }],
      },
    }, [this.rows.map((_, n) => n), ...this.parts.map(part => part.top)], this.box)
    this.u.over.append(this.band)
    this.box.append(this.tip)
  }

  series({ number, floor, top }) {
    return {
      width: 0,
      points: { show: false },
      fill: () => this.color(`.s${number}`, 'fill'),
      paths: uPlot.paths.bars({
        size: [BAR, Infinity],
        disp: { y0: { unit: 1, values: () => floor }, y1: { unit: 1, values: () => top } },
      }),
    }
  }

  // The hidden SVG knows the color of each part in the theme of the moment.
  color(selector, property) {
    const part = this.svg.querySelector(selector)
    return part ? getComputedStyle(part)[property] : 'transparent'
  }

  lines() {
    const { ctx, bbox } = this.u
    ctx.save()
    ctx.lineWidth = devicePixelRatio
    const steps = this.axis.marks.length - 1
    for (let step = 0; step <= steps; step++) {
      const y = between(ctx.lineWidth / 2, Math.round(bbox.height * step / steps), bbox.height - ctx.lineWidth / 2)
      ctx.strokeStyle = this.color(step < steps ? '.grid-line' : '.axis-line', 'stroke')
      ctx.beginPath()
      ctx.moveTo(bbox.left, bbox.top + y)
      ctx.lineTo(bbox.left + bbox.width, bbox.top + y)
      ctx.stroke()
    }
    ctx.restore()
  }

  // What is shown --------------------------------------------------------------------------------------------------------

  show(first, last) {
    this.first = first
    this.last = last
    this.at = between(first, this.at, last)
    const shown = this.totals.slice(first, last + 1)
    this.axis = this.plot.axes[this.plot.axis[first + shown.indexOf(Math.max(...shown))]]
    this.choose(null)
    this.u.setScale('x', { min: first - 0.5, max: last + 0.5 })
    this.write('.chart-y', this.axis.marks)
    const middle = first + Math.floor((last - first + 1) / 2)
    const marked = [...new Set([first, middle, last])]
    this.write('.chart-x', first === last ? [this.rows[first][0]] : marked.map(n => this.days[n][+(n === last)]))
    this.find('output').textContent = this.span(first, last)
    const link = this.find('a')
    link.hidden = first === 0 && last === this.newest
    link.href = this.address(first, last)
    this.tell()
  }

  find(name) {
    return this.body.querySelector(`.chart-tools ${name}`)
  }

  write(selector, texts) {
    this.body.querySelector(selector).replaceChildren(...texts.map(text => element('span', '', text)))
  }

  span(first, last) {
    if (first === last) return this.rows[first][0]
    const [from, to] = [this.days[first][0], this.days[last][1]]
    return word('{first} to {last}', { first: from, last: to })
  }

  // The same page of that time: of a few days by hour. Of the first and the last week there may be a part.
  address(first, last) {
    const asked = new URLSearchParams(location.search)
    for (const name of RANGE) asked.delete(name)
    const { ends: [start, end], at, step, unit } = this.plot
    const from = Math.max(at + first * step, this.plot.first), to = Math.min(at + (last + 1) * step - unit, this.plot.last)
    const time = at => new Date(at).toISOString().slice(0, start === 'start' ? 10 : 16)
    asked.set(start, time(from))
    asked.set(end, time(to))
    if (start === 'start' && (to - from) / unit < this.plot.hours_at_most) asked.set('bars', 'hour')
    return `?${asked}`
  }

  zoom(factor) {           // what is looked at stays where it is
    const count = this.last - this.first + 1, total = this.newest + 1
    const wanted = between(1, factor < 1 ? Math.floor(count * factor) : count * factor, total)
    const share = (this.at - this.first + 0.5) / count
    const first = between(0, Math.round(this.at + 0.5 - share * wanted), total - wanted)
    this.show(first, first + wanted - 1)
  }

  // What is looked at ----------------------------------------------------------------------------------------------------

  tell() {
    const [moment, total, ...values] = this.rows[this.at]
    const parts = values.map((value, n) => `${this.names[n + 2]} ${value}`).filter((_, n) => this.parts[n].values[this.at])
    const chosen = this.marked === null ? [] : [this.span(...this.chosen())]
    this.box.setAttribute('aria-valuenow', this.at + 1)
    this.box.setAttribute('aria-valuetext', [...chosen, `${moment}: ${total}`, ...parts].join(', '))
    const named = values.map((value, n) => [n, value]).filter(([n]) => this.parts[n].values[this.at])
    this.tip.replaceChildren(
      element('p', '', element('b', '', moment), element('b', 'n', total)),
      ...named.map(([n, value]) => element('p', '',
        element('span', `swatch swatch-${this.parts[n].number}`), element('span', 'address', this.names[n + 2]), element('span', 'n', value))),
    )
    this.place()
  }

  look(shown) {
    this.tip.hidden = this.band.hidden = !shown
    this.place()
  }

  place() {                // beside its bar, within the chart
    if (!this.u || this.tip.hidden) return
    const [left, right] = [this.at - 0.5, this.at + 0.5].map(n => this.u.valToPos(n, 'x'))
    Object.assign(this.band.style, { left: `${left}px`, width: `${right - left}px` })
    const room = this.box.clientWidth, wide = this.tip.offsetWidth
    const free = right + TIP + wide <= room ? right + TIP : left - TIP - wide
    this.tip.style.left = `${between(0, free, Math.max(0, room - wide))}px`
  }

  hover(event) {
    this.keyed = false
    this.at = this.bar(event)
    this.tell()
    this.look(true)
  }

  // What is chosen -------------------------------------------------------------------------------------------------------

  chosen() {
    return [this.marked ?? this.at, this.at].sort((a, b) => a - b)
  }

  choose(marked) {
    this.marked = marked
    if (marked === null) return this.u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
    const [first, last] = this.chosen()
    const left = this.u.valToPos(first - 0.5, 'x'), right = this.u.valToPos(last + 0.5, 'x')
    this.u.setSelect({ left, top: 0, width: right - left, height: this.u.over.clientHeight }, false)
  }

  bar(event) {
    const x = event.clientX - this.u.over.getBoundingClientRect().left
    return between(this.first, Math.round(this.u.posToVal(x, 'x')), this.last)
  }

  // Pointers and keys ----------------------------------------------------------------------------------------------------

  listen() {
    const { over } = this.u
    over.addEventListener('pointerdown', event => {
      if (event.button || !event.isPrimary) return
      this.choose(null)
      this.dragged = event.clientX
      over.setPointerCapture(event.pointerId)
      this.hover(event)
    })
    over.addEventListener('pointermove', event => {
      this.hover(event)
      if (this.dragged === null || (this.marked === null && Math.abs(event.clientX - this.dragged) < DRAG)) return
      this.choose(this.marked ?? this.bar({ clientX: this.dragged }))
      this.tell()
    })
    over.addEventListener('pointerleave', event => { if (event.pointerType === 'mouse' && !this.keyed) this.look(false) })
    over.addEventListener('pointerup', () => {
      if (this.dragged !== null && this.marked !== null) this.show(...this.chosen())
      this.dragged = null
    })
    over.addEventListener('pointercancel', () => this.drop())
    over.addEventListener('dblclick', () => this.show(0, this.newest))
    this.box.addEventListener('keydown', event => this.key(event))
    this.box.addEventListener('focus', () => {
      this.keyed = this.box.matches(':focus-visible')
      if (this.keyed) this.look(true)
    })
    this.box.addEventListener('blur', () => { this.drop(); this.keyed = false; this.look(false) })
    for (const button of this.body.querySelectorAll('[data-do]')) button.addEventListener('click', () => this.do(button.dataset.do))
    this.leave = new AbortController()
    const again = () => this.u.redraw()
    for (const scheme of SCHEMES) matchMedia(scheme).addEventListener('change', again, { signal: this.leave.signal })
    this.theme = new MutationObserver(again)
    this.theme.observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] })
    this.size = new ResizeObserver(() => this.u.setSize({ width: this.box.clientWidth, height: this.box.clientHeight }))
    this.size.observe(this.box)
  }

  drop() {
    this.dragged = null
    this.choose(null)
  }

  do(name) {
    if (name === 'all') this.show(0, this.newest)
    else this.zoom(name === 'in' ? 0.5 : 2)
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const wide = this.last - this.first + 1
    const to = {
      ArrowLeft: this.at - 1, ArrowDown: this.at - 1, ArrowRight: this.at + 1, ArrowUp: this.at + 1,
      PageDown: this.at - wide, PageUp: this.at + wide, Home: 0, End: this.newest,
    }[event.key]
    const does = { '+': 'in', '=': 'in', '-': 'out', '0': 'all' }[event.key]
    if (to !== undefined) this.move(between(0, to, this.newest), event.shiftKey)
    else if (does) this.do(does)
    else if (event.key === 'Enter') this.show(...this.chosen())
    else if (event.key === 'Escape') { this.drop(); this.tell(); return this.look(false) }
    else return
    event.preventDefault()
    this.keyed = true
    this.look(true)
  }

  move(to, marks) {        // to another bar, and the others with it where it is not shown
    const marked = marks ? this.marked ?? this.at : null
    this.at = to
    const off = Math.min(0, to - this.first) + Math.max(0, to - this.last)
    if (off) this.show(this.first + off, this.last + off)
    this.choose(marked)
    this.tell()
  }

  end() {
    this.leave.abort()
    this.theme.disconnect()
    this.size.disconnect()
    this.u.destroy()
  }
}

function mount() {         // the explorer swaps itself
  const body = document.querySelector('[data-zoom]'), plot = document.getElementById('plot')
  if (chart?.body === body) return
  chart?.end()
  chart = body && plot && window.uPlot ? new Chart(body, JSON.parse(plot.textContent)) : null
}

document.addEventListener('htmx:load', mount)
mount()
