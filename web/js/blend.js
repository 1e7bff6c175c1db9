// The arithmetic of the live preview, without a browser: pixels, spectra and rectangles.

/** Levels that a delta picture adds under `alpha`, by its own level: 128 adds nothing, 1 and 255 ∓ the peak. */
export function blendTable(alpha, peak, table = new Float32Array(256)) {
  const perLevel = (alpha * peak * 255) / 127
  for (let level = 0; level < 256; level++) table[level] = (level - 128) * perLevel
  return table
}

/** RGBA pixels: `base` in the columns before `from`, base plus the table's levels of `delta` in the others. */
export function blend(out, base, delta, table, width, from) {
  out.set(base)
  for (let row = 0; row < out.length; row += 4 * width) {
    const end = row + 4 * width
    for (let i = row + 4 * from; i < end; i += 4) {
      out[i] = base[i] + table[delta[i]]
      out[i + 1] = base[i + 1] + table[delta[i + 1]]
      out[i + 2] = base[i + 2] + table[delta[i + 2]]
    }
  }
}

/** Weight of the swap at a frequency in cycles per pixel: 0 up to lo, a cosine, 1 from hi on. */
export function ramp(frequency, lo, hi, soft) {
  if (!soft || hi <= lo) return frequency >= lo ? 1 : 0
  const share = Math.min(Math.max((frequency - lo) / (hi - lo), 0), 1)
  return 0.5 - 0.5 * Math.cos(Math.PI * share)
}

/** Profile of the swapped picture in decibels, from those of the base and of what it is drawn to. */
export function swappedProfile(profile, { alpha, lo, hi, soft, clamp_gain }) {
  const target = clamp_gain ? profile.raised : profile.prior
  return profile.frequency.map((frequency, i) => {
    const weight = alpha * ramp(frequency, lo, hi, soft)
    const strength = (1 - weight) * 10 ** (profile.base[i] / 20) + weight * 10 ** (target[i] / 20)
    return 20 * Math.log10(Math.max(strength, 1e-9))
  })
}

/** Largest rectangle of the picture's shape inside a box, centred: {x, y, width, height}. */
export function fit(width, height, boxWidth, boxHeight) {
  const scale = Math.min(boxWidth / width, boxHeight / height)
  const [w, h] = [width * scale, height * scale]
  return { x: (boxWidth - w) / 2, y: (boxHeight - h) / 2, width: w, height: h }
}

/** Part of a picture that fills a box pixel for pixel around a point given in shares of the picture. */
export function cropAround(point, width, height, boxWidth, boxHeight) {
  const [w, h] = [Math.min(width, boxWidth), Math.min(height, boxHeight)]
  const place = (centre, size, part) => Math.round(Math.min(Math.max(centre * size - part / 2, 0), size - part))
  return { x: place(point.x, width, w), y: place(point.y, height, h), width: w, height: h }
}
