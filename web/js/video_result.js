// The nodes that write videos show the newest frame while they work. The classic canvas keeps that picture, and the room
// for it, beside the finished video's player: both go when the video comes.

import { app } from '../../../scripts/app.js'

const NODES = ['FusionFFTInterpolateVideo', 'FusionFFTRestoreVideo']
const LIVE_PICTURES = ['$$canvas-image-preview', '$$comfy_animation_preview']

function removePictures(node) {
  let height = node.size[1]
  for (const picture of node.widgets?.filter((widget) => LIVE_PICTURES.includes(widget.name)) ?? []) {
    node.widgets.splice(node.widgets.indexOf(picture), 1)
    picture.onRemove?.()
    height -= picture.computedHeight ?? 0
  }
  node.imgs = undefined
  node.setSize([node.size[0], Math.max(height, node.computeSize()[1])])
}

app.registerExtension({
  name: 'FusionFFT.VideoResult',
  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return
    const inherited = node.onExecuted
    node.onExecuted = function (...output) {
      inherited?.apply(this, output)
      removePictures(this)
    }
  }
})
