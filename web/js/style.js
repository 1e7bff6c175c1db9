// Look of the live preview: the host's own colours, so that it follows its themes.

export const MIN_HEIGHT = 270

const CSS = `
.fusionfft-preview { box-sizing: border-box; display: flex; flex-direction: column; gap: 4px; width: 100%;
  min-height: ${MIN_HEIGHT - 20}px; overflow: hidden; color: var(--input-text, #ddd); font: 11px/16px sans-serif;
  --fusionfft-field: var(--component-node-widget-background, var(--comfy-input-bg, #222)); }
.fusionfft-preview .view { position: relative; flex: 1 1 0; min-height: 0; overflow: hidden; border-radius: 4px;
  background: var(--fusionfft-field); border: 1px solid var(--border-color, #4e4e4e);
  touch-action: none; user-select: none; }
.fusionfft-preview .stage { position: absolute; cursor: zoom-in; }
.fusionfft-preview .stage > canvas { display: block; width: 100%; height: 100%; }
.fusionfft-preview .stage:focus-visible, .fusionfft-preview .split:focus-visible,
.fusionfft-preview button:focus-visible { outline: 2px solid var(--p-primary-color, #3b9cff); outline-offset: -2px; }
.fusionfft-preview[data-zoom="1:1"] .stage { cursor: grab; }
.fusionfft-preview .split { position: absolute; top: 0; bottom: 0; width: 17px; margin-left: -8.5px;
  cursor: ew-resize; }
.fusionfft-preview .split::before { content: ""; position: absolute; left: 8px; top: 0; bottom: 0; width: 1px;
  background: #fff; box-shadow: 0 0 2px #000; }
.fusionfft-preview .split::after { content: ""; position: absolute; left: 3.5px; top: calc(50% - 12px); width: 10px;
  height: 24px; box-sizing: border-box; border: 1px solid #000a; border-radius: 5px; background: #fff; }
.fusionfft-preview .tag { position: absolute; top: 4px; padding: 0 5px; border-radius: 3px; background: #000a;
  color: #fff; pointer-events: none; }
.fusionfft-preview .tag.before { left: 4px; }
.fusionfft-preview .tag.after { right: 4px; }
.fusionfft-preview .spectrum { position: absolute; left: 4px; bottom: 4px; width: 46%; height: 42%; min-width: 130px;
  max-width: 260px; min-height: 70px; max-height: 150px; border-radius: 3px; background: #000c; pointer-events: none; }
.fusionfft-preview .message { position: absolute; inset: 0; display: flex; align-items: center; padding: 12px;
  justify-content: center; text-align: center; font-size: 12px; color: var(--descrip-text, #999);
  pointer-events: none; }
.fusionfft-preview .message.over { inset: auto 0 0 0; padding: 3px 8px; background: #000b; color: #fff; }
.fusionfft-preview .bar { display: flex; align-items: center; gap: 6px; height: 20px; }
.fusionfft-preview .bar input { flex: 1; min-width: 40px; margin: 0; height: 16px;
  accent-color: var(--p-primary-color, #3b9cff); }
.fusionfft-preview .bar button { height: 20px; padding: 0 7px; border: 1px solid var(--border-color, #4e4e4e);
  border-radius: 4px; background: var(--fusionfft-field); color: inherit; font: inherit; cursor: pointer; }
.fusionfft-preview .bar button[aria-pressed="true"] { border-color: var(--p-primary-color, #3b9cff);
  box-shadow: inset 0 0 0 1px var(--p-primary-color, #3b9cff); }
.fusionfft-preview .bar :disabled { opacity: 0.45; cursor: default; }
.fusionfft-preview .status { height: 16px; overflow: hidden; white-space: nowrap; text-overflow: ellipsis;
  color: var(--descrip-text, #999); }
.fusionfft-preview [hidden] { display: none !important; }
`

/** Puts the style sheet into the page, once. */
export function addStyle() {
  if (document.getElementById('fusionfft-preview-style')) return
  const style = document.createElement('style')
  style.id = 'fusionfft-preview-style'
  style.textContent = CSS
  document.head.append(style)
}
