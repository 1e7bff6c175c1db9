// Draws the spectrum inset: mean strength over frequency of the frame, its prior and the result.

import { ramp, swappedProfile } from './blend.js'

const TOP_FREQUENCY = 0.71
const COLOURS = { base: '#8b93a1', prior: '#3b9cff', result: '#ff8a3b' }

/** profile: as the server sends it; settings: alpha, lo, hi, soft, clamp_gain; text: words. */
export function drawSpectrum(canvas, scale, profile, settings, text) {
  const width = canvas.clientWidth
  const height = canvas.clientHeight
  canvas.width = Math.max(1, Math.round(width * scale))
  canvas.height = Math.max(1, Math.round(height * scale))
  const context = canvas.getContext('2d')
  context.scale(scale, scale)
  const curves = { base: profile.base, prior: profile.prior, result: swappedProfile(profile, settings) }
  // The coarsest few rings are tens of decibels above all others: they would flatten the part that matters.
  const shown = profile.frequency.findIndex((frequency) => frequency > 0.04)
  const values = Object.values(curves).flatMap((curve) => curve.slice(Math.max(shown, 0)))
  const top = Math.max(...values) + 3
  const bottom = Math.max(Math.min(...values), top - 90) - 3
  const legend = 14
  const x = (frequency) => (frequency / TOP_FREQUENCY) * width
  const y = (decibels) => legend + ((top - decibels) / (top - bottom)) * (height - legend)

  context.fillStyle = 'rgba(255, 138, 59, 0.28)'
  for (let column = 0; column < width; column++) {
    context.globalAlpha = ramp((column / width) * TOP_FREQUENCY, settings.lo, settings.hi, settings.soft)
    context.fillRect(column, legend, 1, height - legend)
  }
  context.globalAlpha = 1
  context.strokeStyle = COLOURS.result
  context.setLineDash([2, 2])
  for (const edge of [settings.lo, settings.hi]) {
    line(context, [[x(edge), legend], [x(edge), height]], 1)
  }
  context.setLineDash([])
  context.font = '10px sans-serif'
  let left = 5
  for (const [name, curve] of Object.entries(curves)) {
    context.strokeStyle = context.fillStyle = COLOURS[name]
    line(context, profile.frequency.map((frequency, i) => [x(frequency), Math.max(y(curve[i]), legend)]), 1.3)
    context.fillText(text[name], left, 10)
    left += context.measureText(text[name]).width + 8
  }
}

function line(context, points, width) {
  context.lineWidth = width
  context.beginPath()
  for (const [px, py] of points) context.lineTo(px, py)
  context.stroke()
}
