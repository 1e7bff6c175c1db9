// Fetches a preview's pictures from the server that made them.

/** The server refused: `gone` when the run is no longer kept. */
export class Refused extends Error {
  constructor(status, message) {
    super(message)
    this.gone = status === 410
  }
}

export class PreviewClient {
  /** fetchApi: the host's, which knows where the server is. */
  constructor(fetchApi) {
    this.fetchApi = fetchApi
    this.requests = 0
    this.abort = new AbortController()
  }

  /** -> {bitmap, profile} */
  base(token, frame) {
    return this.picture(`/fusionfft/spectral/${token}/${frame}/base`)
  }

  /** -> {bitmap, peak} */
  delta(token, frame, { lo, hi, soft, clamp_gain }) {
    const query = new URLSearchParams({ lo, hi, soft: Number(soft), clamp_gain: Number(clamp_gain) })
    return this.picture(`/fusionfft/spectral/${token}/${frame}/delta?${query}`)
  }

  /** Ends every request under way. */
  close() {
    this.abort.abort()
  }

  async picture(path) {
    this.requests += 1
    const response = await this.fetchApi(path, { cache: 'no-store', signal: this.abort.signal })
    if (!response.ok) {
      const reply = await response.json().catch(() => ({}))
      throw new Refused(response.status, reply.error ?? `${response.status} ${response.statusText}`)
    }
    const facts = JSON.parse(response.headers.get('X-FusionFFT'))
    const bitmap = await createImageBitmap(await response.blob(), { colorSpaceConversion: 'none' })
    return { bitmap, ...facts }
  }
}
