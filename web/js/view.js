// The live preview of one node: keeps a frame's two pictures and draws their mix at the size it is shown at.
//
// Alpha, the split and the spectrum need no request: the pictures are scaled to the screen once, and a mix touches
// screen pixels only. Other settings ask the server for another delta; the last one stays until it has come.

import { blend, blendTable, cropAround, fit } from './blend.js'
import { PreviewClient, Refused } from './client.js'
import { buildControls } from './controls.js'
import { drawSpectrum } from './spectrum.js'
import { addStyle } from './style.js'

const MAX_SCALE = 4

export class PreviewView {
  /** fetchApi: the host's. readSettings(info): what the node's widgets say now. text: words. */
  constructor({ fetchApi, readSettings, text }) {
    addStyle()
    this.text = text
    this.readSettings = readSettings
    this.client = new PreviewClient(fetchApi)
    this.state = { split: 0.5, detail: false, spectrum: true, frame: 0, centre: { x: 0.5, y: 0.5 } }
    this.counters = { draws: 0, requests: 0, latency: 0, state: 'empty' }
    this.info = null
    this.settings = null
    this.shown = null // {key, token, frame, base, delta}: the pictures on the screen
    this.scaled = null // {width, height, base, delta, out}: their pixels at the screen's size
    this.look = null // size and scale that `scaled` was made for
    this.loading = false
    this.failedKey = null
    this.changedAt = null
    this.table = new Float32Array(256)
    this.controls = buildControls(text, this)
    this.element = this.controls.root
    this.scratch = document.createElement('canvas')
    this.mark()
  }

  /** Shows a run: the node's entry in the server's message. */
  show(info) {
    // The same pictures have the same token; once it was gone there is nothing left of them here.
    const known = this.info?.token === info.token && this.info.frames.length
    this.info = info
    this.failedKey = null
    if (known) return this.refresh()
    this.state.frame = Math.min(this.state.frame, Math.max(info.frames.length - 1, 0))
    const { frames, detail, inset } = this.controls
    frames.max = Math.max(info.frames.length - 1, 0)
    frames.value = this.state.frame
    frames.disabled = info.frames.length < 2
    detail.disabled = inset.disabled = !info.frames.length
    if (!info.frames.length) {
      this.release()
      return this.say('none', this.text.none)
    }
    if (!this.shown) this.say('loading', this.text.loading)
    this.refresh(true)
  }

  /** Something may have changed: compares, then draws or asks for what is missing. */
  refresh(force = false) {
    if (!this.info?.frames.length) return
    const settings = this.readSettings(this.info)
    const before = this.settings
    const same = before && Object.keys(settings).every((name) => settings[name] === before[name])
    if (same && !force) return
    this.settings = settings
    this.changedAt = performance.now()
    const key = this.key()
    if (key !== this.shown?.key) this.load()
    if (before?.alpha !== settings.alpha) this.draw()
    else this.drawInset() // its band moves at once
    this.tell()
  }

  /** The screen may have changed: the node's size, the graph's zoom, the theme. */
  refreshLayout() {
    if (!this.shown || !this.isVisible()) return
    if (this.layout() !== this.look) this.rescale()
  }

  /** Size and scale of what can be seen. */
  layout() {
    const { view } = this.controls
    return [view.clientWidth, view.clientHeight, this.scale().toFixed(3)].join()
  }

  isVisible() {
    return !document.hidden && this.element.isConnected && this.controls.view.clientWidth > 0
  }

  setFrame(index) {
    this.state.frame = index
    this.changedAt = performance.now()
    this.load()
    this.tell()
  }

  setSplit(share) {
    this.state.split = Math.min(Math.max(share, 0), 1)
    this.draw()
  }

  toggleSpectrum() {
    this.state.spectrum = !this.state.spectrum
    this.draw()
  }

  /** Pixel for pixel around a point of the stage (shares of it), or the whole picture again. */
  toggleDetail(point = { x: 0.5, y: 0.5 }) {
    if (!this.shown) return
    this.state.detail = !this.state.detail
    if (this.state.detail) this.state.centre = point
    this.rescale()
  }

  pan(dx, dy) {
    const { width, height } = this.shown.base.bitmap
    const { source } = this.scaled
    const { centre } = this.state
    // From where the crop is, not from where it was asked for beyond the picture's edge.
    centre.x = (source.x + source.width / 2 - dx * window.devicePixelRatio) / width
    centre.y = (source.y + source.height / 2 - dy * window.devicePixelRatio) / height
    this.rescale()
  }

  /** Frees everything that is large, and ends what is under way. */
  dispose() {
    this.disposed = true
    this.client.close()
    this.release()
  }

  release() {
    this.shown?.base.bitmap.close()
    this.shown?.delta.bitmap.close()
    this.shown = this.scaled = null
    this.scratch.width = this.scratch.height = 1
    const { stage, before, after, spectrum, canvas } = this.controls
    canvas.width = canvas.height = 1
    for (const part of [stage, before, after, spectrum]) part.hidden = true
  }

  /** What the pictures on the screen depend on; alpha is not among it. */
  key() {
    const { lo, hi, soft, clamp_gain } = this.settings
    return JSON.stringify([this.info.token, this.state.frame, lo, hi, soft, clamp_gain])
  }

  /** Fetches until the newest wish is on the screen: one wish at a time, those overtaken meanwhile are skipped. */
  async load() {
    if (this.loading) return
    this.loading = true
    this.mark()
    while (!this.disposed && this.info.frames.length) {
      const key = this.key()
      if (key === this.shown?.key || key === this.failedKey) break
      const [token, frame, changedAt] = [this.info.token, this.state.frame, this.changedAt]
      const wanted = { ...this.settings }
      try {
        const kept = this.shown?.token === token && this.shown.frame === frame ? this.shown.base : null
        const asked = [kept ?? this.client.base(token, frame), this.client.delta(token, frame, wanted)]
        this.mark()
        const [base, delta] = await settled(asked, kept)
        if (this.disposed || this.info.token !== token) {
          for (const picture of [base, delta]) if (picture !== this.shown?.base) picture.bitmap.close()
          continue
        }
        this.replace({ key, token, frame, base, delta })
        this.rescale(changedAt)
      } catch (error) {
        if (this.disposed) break
        if (this.info.token !== token) continue
        this.failedKey = key
        this.fail(error)
      }
    }
    this.loading = false
    this.mark()
  }

  replace(pictures) {
    this.failedKey = null
    if (this.shown && this.shown.base !== pictures.base) this.shown.base.bitmap.close()
    this.shown?.delta.bitmap.close()
    this.shown = pictures
    this.look = null // drawn when next visible, if not now
    this.say('ready', '')
  }

  fail(error) {
    if (error instanceof Refused && error.gone) {
      this.info = { ...this.info, frames: [] }
      this.release()
      for (const name of ['frames', 'detail', 'inset']) this.controls[name].disabled = true
      return this.say('gone', error.message)
    }
    this.say('error', error instanceof Refused ? error.message : this.text.unreachable)
  }

  /** Screen pixels for one pixel of layout: the display's own, times the graph's zoom. */
  scale() {
    const { view } = this.controls
    const zoom = view.offsetWidth ? view.getBoundingClientRect().width / view.offsetWidth : 1
    return Math.min(Math.max(zoom * window.devicePixelRatio, 0.1), MAX_SCALE)
  }

  /** Scales the two pictures, or cuts a part of them, to the pixels of the screen. */
  rescale(changedAt = this.changedAt) {
    if (!this.shown || !this.isVisible()) return
    const { view, stage, canvas } = this.controls
    const { width, height } = this.shown.base.bitmap
    const scale = this.scale()
    this.look = this.layout()
    const [boxWidth, boxHeight] = [view.clientWidth, view.clientHeight]
    let source = { x: 0, y: 0, width, height }
    let place = fit(width, height, boxWidth, boxHeight)
    let pixels = [place.width * scale, place.height * scale]
    if (this.state.detail) {
      const [w, h] = [Math.floor(boxWidth * scale), Math.floor(boxHeight * scale)]
      source = cropAround(this.state.centre, width, height, w, h)
      pixels = [source.width, source.height]
      place = { width: source.width / scale, height: source.height / scale }
      place.x = (boxWidth - place.width) / 2
      place.y = (boxHeight - place.height) / 2
    } else if (pixels[0] > width) {
      pixels = [width, height] // enlarging is the browser's work
    }
    const [w, h] = pixels.map((size) => Math.max(1, Math.round(size)))
    const layout = { left: place.x, top: place.y, width: place.width, height: place.height }
    for (const [name, value] of Object.entries(layout)) stage.style[name] = `${value}px`
    stage.hidden = false
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h })
    const read = (picture) => this.pixels(picture.bitmap, source, w, h)
    const [base, delta] = [read(this.shown.base), read(this.shown.delta)]
    this.scaled = { width: w, height: h, source, base, delta, out: new ImageData(w, h), zoom: w / source.width }
    this.draw(changedAt)
    this.tell()
  }

  pixels(bitmap, source, width, height) {
    const { scratch } = this
    if (scratch.width !== width || scratch.height !== height) Object.assign(scratch, { width, height })
    const context = scratch.getContext('2d', { willReadFrequently: true })
    context.imageSmoothingQuality = 'high'
    context.drawImage(bitmap, source.x, source.y, source.width, source.height, 0, 0, width, height)
    return context.getImageData(0, 0, width, height).data
  }

  draw(changedAt = this.changedAt) {
    if (!this.scaled) return
    const { width, height, base, delta, out } = this.scaled
    const { alpha } = this.settings
    blendTable(alpha, this.shown.delta.peak, this.table)
    blend(out.data, base, delta, this.table, width, Math.round(this.state.split * width))
    this.controls.canvas.getContext('2d').putImageData(out, 0, 0)
    this.arrange()
    this.drawInset()
    this.counters.draws += 1
    if (changedAt !== null) this.counters.latency = performance.now() - changedAt
    if (changedAt === this.changedAt) this.changedAt = null
    this.mark()
  }

  drawInset() {
    const { spectrum } = this.controls
    spectrum.hidden = !this.shown || !this.state.spectrum
    if (!spectrum.hidden) drawSpectrum(spectrum, this.scale(), this.shown.base.profile, this.settings, this.text)
  }

  arrange() {
    const { split, before, after, inset, detail } = this.controls
    const percent = Math.round(this.state.split * 100)
    split.style.left = `${this.state.split * 100}%`
    split.setAttribute('aria-valuenow', percent)
    before.hidden = percent < 15
    after.hidden = percent > 85
    inset.setAttribute('aria-pressed', this.state.spectrum)
    detail.setAttribute('aria-pressed', this.state.detail)
  }

  /** One line under the picture: which frame, at what scale. */
  tell() {
    const frame = this.info?.frames[this.state.frame]
    if (!frame) return
    const parts = [`${this.text.frame} ${frame.number} / ${this.info.count - 1}`]
    if (this.scaled) {
      const zoom = this.state.detail ? 1 : this.scaled.zoom
      parts.push(this.state.detail ? '1:1' : `${Math.round(zoom * 100)} %`)
      if (zoom < 0.8) parts.push(this.text.fineDetail)
    }
    if (this.settings.prior_kind !== this.info.prior_kind && this.info.prior_kind) parts.push(this.text.stale)
    this.controls.status.textContent = parts.join(' · ')
    this.controls.status.title = this.controls.status.textContent
  }

  say(state, message) {
    const { message: box, status } = this.controls
    this.counters.state = state
    box.textContent = message
    box.hidden = !message
    box.classList.toggle('over', Boolean(this.shown))
    if (!this.shown) status.textContent = ''
    this.mark()
  }

  /** Mirrors the counters where a test or a curious user can read them. */
  mark() {
    this.counters.requests = this.client.requests
    Object.assign(this.element.dataset, {
      state: this.counters.state,
      busy: this.loading,
      draws: this.counters.draws,
      requests: this.counters.requests,
      latency: this.counters.latency.toFixed(1),
      frame: this.state.frame,
      split: this.state.split.toFixed(3),
      zoom: this.state.detail ? '1:1' : 'fit'
    })
  }
}

/** Both pictures, or the first error; a picture that arrived beside an error is freed. */
async function settled(asked, kept) {
  const results = await Promise.allSettled(asked)
  const failed = results.find((result) => result.status === 'rejected')
  if (!failed) return results.map((result) => result.value)
  for (const result of results) {
    if (result.status === 'fulfilled' && result.value !== kept) result.value.bitmap.close()
  }
  throw failed.reason
}
