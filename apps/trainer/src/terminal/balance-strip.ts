/**
 * @file How evenly the experts are used, as a few characters.
 *
 * One glyph per layer says how busy its busiest expert is: `▁` even use, `█` all tokens on as few experts as there can
 * be. One row per layer, one glyph per expert, shows who is busy.
 */

const glyphs = '▁▂▃▄▅▆▇█';

/** Loads of one layer: pairs routed to each expert. */
export type ExpertLoads = readonly number[];

/** Load of the busiest expert over the mean load: 1 is even use, E / K is collapse. `NaN` without any pair. */
export function imbalanceOf(loads: ExpertLoads): number {
  const total = loads.reduce((sum, load) => sum + load, 0);
  return (Math.max(...loads) * loads.length) / total;
}

/**
 * One glyph per layer.
 *
 * @param layers - loads per layer
 * @param topK - experts per token: the busiest an expert can be is every token, E / K times the mean
 */
export function balanceStrip(layers: readonly ExpertLoads[], topK: number): string {
  return layers
    .map((loads) => glyphAt((imbalanceOf(loads) - 1) / Math.max(1e-9, loads.length / topK - 1)))
    .join('');
}

/** One row per layer: each expert's load against the busiest expert of the layer. */
export function loadRows(layers: readonly ExpertLoads[]): string[] {
  return layers.map((loads, layer) => {
    return `layer ${String(layer).padStart(2)}  ${shareStrip(loads)}  busiest expert ${imbalanceOf(loads).toFixed(2)} x mean`;
  });
}

/** One glyph per expert: its load against the busiest one of the layer, `·` for none. */
export function shareStrip(loads: ExpertLoads): string {
  const busiest = Math.max(1, ...loads);
  return loads.map((load) => (load === 0 ? '·' : glyphAt(load / busiest))).join('');
}

function glyphAt(fraction: number): string {
  if (!Number.isFinite(fraction)) return '?';
  const index = Math.min(glyphs.length - 1, Math.max(0, Math.floor(fraction * glyphs.length)));
  return glyphs[index] ?? '?';
}
