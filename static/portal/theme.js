// The theme buttons work as a plain form. This saves the reload: the choice shows at once, the server keeps the cookie.
document.addEventListener('submit', event => {
  const form = event.target.closest('[data-theme-form]')
  const theme = event.submitter?.value
  if (!form || !theme) return
  event.preventDefault()
  if (theme === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme
  for (const button of document.querySelectorAll('[data-theme-form] button'))
    button.setAttribute('aria-pressed', String(button.value === theme))
  const body = new FormData(form)
  body.set('theme', theme)
  fetch(form.action, { method: 'POST', body, redirect: 'manual' })
})

// A menu in the bar closes when the reader goes elsewhere or presses Escape.
const menus = () => document.querySelectorAll('details.account[open], details.menu[open]')
document.addEventListener('click', event => {
  for (const menu of menus()) if (!menu.contains(event.target)) menu.open = false
})
document.addEventListener('keydown', event => {
  if (event.key !== 'Escape') return
  for (const menu of menus()) {
    menu.open = false
    menu.querySelector('summary').focus()
  }
})
