// What the live preview says, in the languages of the node pack.

const ENGLISH = {
  empty: 'Run the graph once to tune here',
  unchanged: 'Nothing here changed since the last run: change a value, then run',
  none: 'This clip has no made frames: only those are swapped',
  loading: 'Loading …',
  unreachable: 'The server does not answer',
  stale: 'prior_kind changed: run again to see it',
  before: 'before',
  after: 'after',
  split: 'Before and after',
  frame: 'Frame',
  spectrum: 'Spectrum',
  base: 'frame',
  prior: 'prior',
  result: 'result',
  detail: 'Pixel for pixel',
  picture: 'Preview of the swap: a click shows it pixel for pixel',
  fineDetail: 'fine detail shows at 1:1'
}

const CHINESE = {
  empty: '先运行一次工作流，即可在此调节',
  unchanged: '自上次运行后没有变化：请更改一个值再运行',
  none: '此片段没有插入帧：只有插入帧会被替换',
  loading: '加载中…',
  unreachable: '服务器没有响应',
  stale: 'prior_kind 已更改：重新运行后可见',
  before: '之前',
  after: '之后',
  split: '前后对比',
  frame: '帧',
  spectrum: '频谱',
  base: '本帧',
  prior: '先验',
  result: '结果',
  detail: '逐像素',
  picture: '替换预览：点击可逐像素查看',
  fineDetail: '细节请看 1:1'
}

export function words(locale) {
  return String(locale ?? '').startsWith('zh') ? CHINESE : ENGLISH
}
