// <form data-passkey="create|get" data-options="…" hidden>: asks the browser for a passkey and sends the form with it. The
// options, and what is sent, are WebAuthn's JSON; data-options-at is where to fetch them when the button is pressed.
// Shown where the browser has passkeys; what stands in for it ([data-passkeys-missing]) then goes.
const able = Boolean(window.PublicKeyCredential && navigator.credentials)

async function options (form) {
  if (form.dataset.options) return JSON.parse(form.dataset.options)
  const answer = await fetch(form.dataset.optionsAt, { headers: { Accept: 'application/json' } })
  if (!answer.ok) throw new Error(`status ${answer.status}`)
  return (await answer.json()).request_options
}

function say (form, name) {
  const known = form.querySelector(`[data-refused="${name}"]`) ? name : ''
  for (const notice of form.querySelectorAll('[data-refused]')) {
    notice.role = 'alert'
    notice.hidden = name === null || notice.dataset.refused !== known
  }
}

for (const form of able ? document.querySelectorAll('form[data-passkey]') : []) {
  form.hidden = false
  form.addEventListener('submit', async event => {
    event.preventDefault()
    const button = form.querySelector('button[type=submit]')
    say(form, null)
    button.disabled = true
    try {
      const credential = await window.webauthnJSON[form.dataset.passkey](await options(form))
      form.querySelector('[data-credential]').value = JSON.stringify(credential)
      form.submit()     // this one asks no listener
    } catch (refusal) {
      say(form, refusal.name)
      button.disabled = false
    }
  })
}
if (able) for (const notice of document.querySelectorAll('[data-passkeys-missing]')) notice.hidden = true
