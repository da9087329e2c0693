import fc from 'fast-check';

import { planPairs } from '../../src/index.ts';
import type { LayerTrace, RouteTrace, TracePass } from '../../src/metrics/index.ts';
import { offsetsOf, raggedChoices } from '../arbitraries.ts';

const layerTraces: fc.Arbitrary<Omit<LayerTrace, 'layer'>> = raggedChoices.chain(({ experts, lists }) => {
  const plan = planPairs(Int32Array.from(lists.flat()), { experts, tokenOffsets: offsetsOf(lists) });
  const pairs = plan.token.length;
  const weight = fc.float({ noNaN: true, noDefaultInfinity: true });
  return fc.option(fc.array(weight, { minLength: pairs, maxLength: pairs })).map((weights) => ({
    plan,
    weights: weights === null ? null : Float32Array.from(weights, (weight) => weight + 0),
  }));
});

const passes: fc.Arbitrary<TracePass> = fc.record(
  {
    step: fc.nat(),
    phase: fc.constantFrom('train' as const, 'evaluate' as const, 'prefill' as const, 'decode' as const),
    sequences: fc.integer({ min: 1, max: 9 }),
    layers: fc
      .array(layerTraces, { maxLength: 3 })
      .map((layers) => layers.map((entry, i) => ({ layer: 2 * i, ...entry }))),
  },
  { requiredKeys: ['step', 'layers'] },
);

/** Any trace of up to four passes; -0 is left out, which JSON writes as 0. */
export const traces: fc.Arbitrary<RouteTrace> = fc.record({
  about: fc.dictionary(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), { maxKeys: 3 }),
  passes: fc.array(passes, { maxLength: 4 }),
});
