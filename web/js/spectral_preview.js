// Live preview on the Spectral Swap node: its sliders act on a picture at once, without running the graph.

import { api } from '../../../scripts/api.js'
import { app } from '../../../scripts/app.js'
import { MIN_HEIGHT } from './style.js'
import { PreviewView } from './view.js'
import { words } from './words.js'

const NODE = 'FusionFFTSpectralSwap'
const UI_KEY = 'fusionfft_spectral'
const LIVE = ['alpha', 'lo', 'hi', 'soft', 'clamp_gain']
const POLL_MS = 60

/** Values of the node's widgets; those that a link feeds are as the run had them. */
function readSettings(node, info) {
  const settings = {}
  for (const name of [...LIVE, 'prior_kind']) {
    const widget = node.widgets?.find((widget) => widget.name === name)
    const linked = node.inputs?.some((input) => input.widget?.name === name && input.link != null)
    settings[name] = widget && !linked ? widget.value : info[name]
  }
  return settings
}

/** The name under which the host keeps a node's last output. */
function outputKey(node) {
  const graph = node.graph
  return !graph || graph.isRootGraph || graph === app.rootGraph ? String(node.id) : `${graph.id}:${node.id}`
}

function attach(node) {
  const view = new PreviewView({
    fetchApi: (path, options) => api.fetchApi(path, options),
    readSettings: (info) => readSettings(node, info),
    text: words(app.ui?.settings?.getSettingValue?.('Comfy.Locale'))
  })
  const widget = node.addDOMWidget('spectral_preview', 'fusionfft_preview', view.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => MIN_HEIGHT,
    getValue: () => ''
  })
  // Not among the saved values, which are matched to widgets by position, nor in the prompt.
  widget.serialize = false
  node.fusionfftPreview = view.counters

  for (const name of LIVE) {
    const live = node.widgets.find((widget) => widget.name === name)
    if (!live) continue
    const callback = live.callback
    live.callback = function (...values) {
      const result = callback?.apply(this, values)
      view.refresh()
      return result
    }
  }

  const show = (output) => {
    const info = output?.[UI_KEY]?.[0]
    if (info) view.show(info)
    return Boolean(info)
  }
  const { onExecuted, onRemoved } = node
  node.onExecuted = function (output) {
    onExecuted?.apply(this, arguments)
    show(output)
  }

  // Older hosts do not repeat the output of a node they need not run, which matters after a page reload.
  const ended = () => view.info || view.say('empty', view.text.unchanged)
  api.addEventListener('execution_success', ended)

  let ticks = 0
  const poll = setInterval(() => {
    if (!view.isVisible()) return
    // Undo and a change of tab rebuild the node; the host still has what it last showed.
    if (!view.info) show(app.nodeOutputs?.[outputKey(node)])
    view.refresh() // values also change without a callback: undo, a parent subgraph's widget
    if (ticks++ % 3 === 0) view.refreshLayout()
  }, POLL_MS)
  node.onRemoved = function () {
    clearInterval(poll)
    api.removeEventListener('execution_success', ended)
    view.dispose()
    onRemoved?.apply(this, arguments)
  }

  // On the classic canvas an element swallows the wheel and the middle button, which belong to the graph.
  const isClassic = () => !view.element.closest('[data-node-id]')
  view.element.addEventListener('wheel', (event) => isClassic() && app.canvas?.processMouseWheel?.(event))
  for (const [type, method] of Object.entries({ pointerdown: 'processMouseDown', pointermove: 'processMouseMove' })) {
    view.element.addEventListener(type, (event) => {
      const middle = type === 'pointerdown' ? event.button === 1 : event.buttons === 4
      if (middle && isClassic()) app.canvas?.[method]?.(event)
    })
  }

  const [width, height] = node.size
  node.setSize([Math.max(width, 400), Math.max(height, node.computeSize()[1])])
}

app.registerExtension({
  name: 'FusionFFT.SpectralPreview',
  nodeCreated(node) {
    if (node.constructor.comfyClass === NODE) attach(node)
  }
})
