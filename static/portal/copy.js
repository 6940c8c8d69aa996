// <button data-copy="id" hidden>: copies the text of the element with that id. Hidden without script: the text can be selected.
const words = JSON.parse(document.getElementById('words')?.textContent ?? '{}')   // portal/words.py; none: English
const word = text => words[text] ?? text

for (const button of document.querySelectorAll('[data-copy]')) button.hidden = false

document.addEventListener('click', async event => {
  const button = event.target.closest('[data-copy]')
  if (!button) return
  const source = document.getElementById(button.dataset.copy)
  const label = button.querySelector('[data-label]')
  try {
    await navigator.clipboard.writeText(source.textContent)
    label.textContent = word('Copied')
  } catch {             // no right to the clipboard: select it, so that the reader can copy
    getSelection().selectAllChildren(source)
    label.textContent = word('Selected')
  }
  setTimeout(() => { label.textContent = word('Copy') }, 2000)
})
