// FusionFFT Interpolate Video shows the newest frame while it works. The classic canvas keeps that picture, and the room
// for it, beside the finished video's player: both go when the video comes.

import { app } from '../../../scripts/app.js'

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
    if (node.comfyClass !== 'FusionFFTInterpolateVideo') return
    const inherited = node.onExecuted
    node.onExecuted = function (...output) {
      inherited?.apply(this, output)
      removePictures(this)
    }
  }
})
