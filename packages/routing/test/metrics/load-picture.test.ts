import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { capacityPolicy, parseCapacityConfig, planCapacity, planPairs, planTopK } from '../../src/index.ts';
import type { DispatchPlan } from '../../src/index.ts';
import { drawLoadSvg, drawLoadText } from '../../src/metrics/index.ts';
import { offsetsOf, raggedChoices } from '../arbitraries.ts';
import { elementsOf, parseXml } from './xml.ts';

/** Eight tokens, four experts, everybody likes 0; at most two tokens an expert, dropped pairs go to local experts. */
function capped(expand: object | null = null): DispatchPlan {
  const scores = Float32Array.from({ length: 32 }, (_, i) => (i % 4 === 0 ? 0.5 : (1 + ((i * 7) % 5)) / 20));
  const config = {
    method: 'drop',
    gamma: 1,
    ...(expand === null ? {} : { expand }),
    placement: { devices: 1 },
  };
  return planCapacity(scores, { experts: 4, topK: 1, policy: capacityPolicy(parseCapacityConfig(config)) });
}

describe('the picture in text', () => {
  it('shows what was kept, dropped and added', () => {
    const top = planTopK(Int32Array.of(1, 0, 1, 2), { tokens: 2, experts: 4, topK: 2 });
    expect(drawLoadText(top, { width: 24 })).toBe(
      [
        '0 ██████████           1',
        '1 ████████████████████ 2',
        '2 ██████████           1',
        '3                      0',
        '',
      ].join('\n'),
    );
    expect(drawLoadText(capped(), { width: 24, ascii: true })).toBe(
      [
        '0 ####............. 2 -6',
        '1                   0',
        '2                   0',
        '3                   0',
        '',
      ].join('\n'),
    );
    const added = drawLoadText(capped({ kind: 'local' }), { width: 40 });
    expect(added).toContain('▓');
    expect(added).toMatch(/^0 █+░+ +2 -6$/m);
    expect(added).toMatch(/^1 ▓+ +0 \+\d$/m);
  });

  it('stands what was dropped above the load, where something was added too', () => {
    const scores = Float32Array.from({ length: 64 * 8 }, (_, i) => ((i * i) % 11) / 11 + 2 / (1 + (i % 8)));
    const config = { method: 'drop', gamma: 1.25, expand: { kind: 'local' }, placement: { devices: 2 } };
    const policy = capacityPolicy(parseCapacityConfig(config));
    const plan = planCapacity(scores, { experts: 8, topK: 2, policy });
    const both = drawLoadText(plan, { width: 90 })
      .split('\n')
      .filter((line) => / -\d+ \+\d+$/.test(line));
    expect(both.length).toBeGreaterThan(0);
    for (const line of both) expect(line).toMatch(/^\d █*▓+░+ /);
  });

  it('never has a line wider than asked, nor a control character, and is the same twice', () => {
    fc.assert(
      fc.property(
        raggedChoices,
        fc.integer({ min: 20, max: 120 }),
        fc.boolean(),
        ({ experts, lists }, width, ascii) => {
          const plan = planPairs(Int32Array.from(lists.flat()), { experts, tokenOffsets: offsetsOf(lists) });
          const text = drawLoadText(plan, { width, ascii });
          expect(drawLoadText(plan, { width, ascii })).toBe(text);
          const lines = text.split('\n').slice(0, -1);
          expect(lines).toHaveLength(experts);
          for (const line of lines) expect(line.length).toBeLessThanOrEqual(width);
          expect(text).toMatch(ascii ? /^[ -~\n]*$/ : /^[ -~\n█░▓]*$/);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('falls back to numbers where bars have no room, and refuses less than that', () => {
    const load = Int32Array.from({ length: 4 }, () => 0);
    const plan = planTopK(load, { tokens: 4, experts: 1, topK: 1 });
    const stats = {
      ...plan.stats,
      load: Int32Array.of(1_234_567_890),
      capacity: {
        preLoad: Int32Array.of(2_000_000_000),
        limit: new Int32Array(0),
        dropped: 1,
        expanded: 0,
        orphans: 0,
        perToken: new Int32Array(2),
      },
    };
    expect(drawLoadText({ ...plan, stats }, { width: 20 })).toBe('0 4 -1999999996 +123\n');
    expect(() => drawLoadText(plan, { width: 19 })).toThrow(
      'drawLoadText.width: must be at least 20, got 19 (widen the terminal, or draw an SVG)',
    );
  });
});

describe('the picture in SVG', () => {
  it('has a bar for every part of every expert, as high as its pairs, and the cap', () => {
    const plan = capped({ kind: 'local' });
    const root = parseXml(drawLoadSvg(plan));
    const bars = elementsOf(root).filter(({ name, children }) => name === 'rect' && children.length > 0);
    const labels = bars.map(({ children }) => children[0]?.text);
    expect(labels).toContain('expert 0: 2 kept');
    expect(labels).toContain('expert 0: 6 dropped');
    const heights = bars.map(({ attributes }) => Number(attributes['height']));
    const pairs = labels.map((label) => Number(/: (\d+) /.exec(label ?? '')?.[1]));
    const perPair = heights[0]! / pairs[0]!;
    for (const [i, height] of heights.entries()) expect(height).toBeCloseTo(pairs[i]! * perPair, 1);
    expect(pairs.reduce((sum, count) => sum + count, 0)).toBe(
      plan.stats.pairs + (plan.stats.capacity?.dropped ?? 0),
    );
    const [cap, ...others] = elementsOf(root).filter(({ attributes }) => 'stroke-dasharray' in attributes);
    expect(others).toEqual([]);
    expect(cap?.children[0]?.text).toBe('cap 2');
    expect(Number(cap?.attributes['y1'])).toBeCloseTo(216 - 2 * perPair, 1);
  });

  it('is well formed for any plan and title, shows the title as it is, refers to nothing outside', () => {
    fc.assert(
      fc.property(
        raggedChoices,
        fc.string({ unit: 'binary', maxLength: 60 }),
        ({ experts, lists }, title) => {
          const plan = planPairs(Int32Array.from(lists.flat()), { experts, tokenOffsets: offsetsOf(lists) });
          const svg = drawLoadSvg(plan, { title });
          expect(drawLoadSvg(plan, { title })).toBe(svg);
          const all = elementsOf(parseXml(svg));
          expect(
            all
              .map(({ name }) => name)
              .filter((name) => !['svg', 'title', 'rect', 'text', 'line'].includes(name)),
          ).toEqual([]);
          const names = new Set(all.flatMap(({ attributes }) => Object.keys(attributes)));
          for (const name of ['href', 'style', 'src', 'onload']) expect(names.has(name)).toBe(false);
          const printable = [...title].every(
            (character) =>
              (character.codePointAt(0) ?? 0) >= 0x20 && !/[\uFFFE\uFFFF\uD800-\uDFFF]/u.test(character),
          );
          if (printable) expect(all.find(({ name }) => name === 'title')?.text).toBe(title);
          for (const { attributes } of all)
            for (const key of ['x', 'y', 'width', 'height'])
              if (key in attributes) expect(Number.isFinite(Number(attributes[key]))).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('escapes markup in names', () => {
    const plan = planTopK(Int32Array.of(0), { tokens: 1, experts: 1, topK: 1 });
    const svg = drawLoadSvg(plan, { title: '</title><script>alert("&")</script>' });
    expect(svg).not.toContain('<script');
    expect(svg).toContain('&lt;/title&gt;&lt;script&gt;alert(&quot;&amp;&quot;)&lt;/script&gt;');
  });

  it('refuses sizes that leave no room', () => {
    expect(() => drawLoadSvg(capped(), { width: 20, height: NaN })).toThrow(
      'drawLoadSvg: width and height must be from 160 and 120 to 10000, got 20 and NaN (choose another size)',
    );
  });
});
