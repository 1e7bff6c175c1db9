// The preview's elements, and what hands do with them: drag, click and keys become calls of `actions`.

/** Creates an element with properties, `attributes` among them, and children. */
function make(tag, { attributes = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

/**
 * actions: setSplit(share), setFrame(index), toggleDetail(point), pan(dx, dy in client pixels),
 * toggleSpectrum(), and state {split, detail}.
 */
export function buildControls(text, actions) {
  const canvas = make('canvas', { className: 'picture' })
  const split = make('div', {
    className: 'split',
    tabIndex: 0,
    attributes: { role: 'slider', 'aria-label': text.split, 'aria-valuemin': 0, 'aria-valuemax': 100 }
  })
  const stage = make(
    'div',
    { className: 'stage', hidden: true, tabIndex: 0, attributes: { role: 'group', 'aria-label': text.picture } },
    canvas,
    split
  )
  const before = make('span', { className: 'tag before', textContent: text.before, hidden: true })
  const after = make('span', { className: 'tag after', textContent: text.after, hidden: true })
  const spectrum = make('canvas', { className: 'spectrum', hidden: true, attributes: { 'aria-hidden': 'true' } })
  const message = make('div', { className: 'message', textContent: text.empty })
  const view = make('div', { className: 'view' }, stage, before, after, spectrum, message)
  const frames = make('input', {
    type: 'range',
    className: 'frames',
    min: 0,
    max: 0,
    value: 0,
    disabled: true,
    attributes: { 'aria-label': text.frame }
  })
  const detail = toggle('detail', '1:1', text.detail)
  const inset = toggle('inset', text.spectrum, text.spectrum)
  const bar = make('div', { className: 'bar' }, frames, detail, inset)
  const status = make('div', { className: 'status', attributes: { role: 'status' } })
  const root = make('div', { className: 'fusionfft-preview' }, view, bar, status)

  frames.addEventListener('input', () => actions.setFrame(Number(frames.value)))
  detail.addEventListener('click', () => actions.toggleDetail())
  inset.addEventListener('click', () => actions.toggleSpectrum())
  dragAndClick(stage, split, actions)
  keys(root, stage, split, frames, actions)
  return { root, view, stage, canvas, split, before, after, spectrum, message, frames, detail, inset, status }
}

function toggle(name, label, title) {
  return make('button', {
    type: 'button',
    className: name,
    textContent: label,
    title,
    disabled: true,
    attributes: { 'aria-pressed': 'false' }
  })
}

function dragAndClick(stage, split, actions) {
  let drag = null
  const share = (event) => {
    const box = stage.getBoundingClientRect()
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height }
  }
  stage.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return
    event.stopPropagation()
    // Captured by the stage whatever was hit, so that the pointer may leave the node while it drags.
    stage.setPointerCapture(event.pointerId)
    const onSplit = event.target === split
    drag = { x: event.clientX, y: event.clientY, onSplit, moved: onSplit, detail: actions.state.detail }
  })
  stage.addEventListener('pointermove', (event) => {
    if (!drag) return
    event.stopPropagation()
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y]
    if (!drag.moved && Math.hypot(dx, dy) < 4) return
    drag.moved = true
    if (drag.onSplit || !drag.detail) return actions.setSplit(share(event).x)
    actions.pan(dx, dy)
    drag.x = event.clientX
    drag.y = event.clientY
  })
  const end = (event) => {
    if (!drag) return
    event.stopPropagation()
    const clicked = event.type === 'pointerup' && !drag.moved
    drag = null
    if (clicked) actions.toggleDetail(share(event))
  }
  stage.addEventListener('pointerup', end)
  stage.addEventListener('pointercancel', end)
}

const STEPS = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }
const PANS = { ArrowLeft: [48, 0], ArrowRight: [-48, 0], ArrowUp: [0, 48], ArrowDown: [0, -48] }

function keys(root, stage, split, frames, actions) {
  root.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    let used = true
    if (event.target === split && event.key in STEPS) actions.setSplit(actions.state.split + STEPS[event.key])
    else if (event.target === stage && actions.state.detail && event.key in PANS) actions.pan(...PANS[event.key])
    else if (event.target === stage && (event.key === 'Enter' || event.key === ' ')) actions.toggleDetail()
    else used = false
    if (used) event.preventDefault()
    // The host listens for the same keys, for the graph.
    const native = event.target === frames || event.target.tagName === 'BUTTON'
    if (used || (native && (event.key in STEPS || event.key in PANS || event.key === 'Enter' || event.key === ' '))) {
      event.stopPropagation()
    }
  })
}
