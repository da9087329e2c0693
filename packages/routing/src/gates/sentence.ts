/**
 * @file Sentence-level routing (Kudugunta et al. 2021, 2110.03742): one decision for all tokens of a sequence, from the mean of their rows.
 *
 * `z = W mean_t x_t`, softmax, the `K` best, renormalised. With `pool: 'prefix'` the mean of a token is over the tokens up to it, so that a
 * decoder may use it: then decisions differ along a sequence. The mean over the whole sequence is not causal.
 *
 * Letters: `T` tokens, `B` sequences, `L = T/B`, `D` model width, `E` experts, `G` sequences, `K` top-k.
 */
import { parseConfig, z } from '@moebius/core';
import {
  assertDivides,
  cumsum,
  linearBackward,
  linearForward,
  matMul,
  mul,
  reshape,
  runOp,
  tensor2d,
} from '@moebius/tensor';
import type { LinearSaved, Tensor2D } from '@moebius/tensor';

import type { RouterOptions } from '../define-router.ts';
import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { chooseTopK } from './choices.ts';
import { composeRouter } from './compose-router.ts';
import { topKOption } from './gate-family.ts';
import type { Scorer } from './stages.ts';
import { poolMatrix, sequenceGroups, spreadMatrix } from './token-groups.ts';
import { weighScores } from './weighs.ts';

/**
 * Sentence-level routing by name, `sentence`. Options: `topK` (default: the model's), `pool` over the `sequence` (default) or the `prefix`,
 * `renormalise` the weights (default true). Trained: `weight` `[E, D]`. In generation with a cache both means are over the tokens at hand.
 */
export function sentenceRouter(): RouterFactory {
  return defineRouterFactory({
    name: 'sentence',
    create: (place, options) => {
      const { experts } = place;
      const schema = z.strictObject({
        topK: topKOption(place),
        pool: z.enum(['sequence', 'prefix']).default('sequence'),
        renormalise: z.boolean().default(true),
      });
      const { topK, pool, renormalise } = parseConfig(schema, options, 'options');
      return composeRouter({
        name: 'sentence',
        experts,
        topK,
        causal: pool === 'prefix',
        trusted: true,
        scorer: pool === 'prefix' ? prefixScorer(experts) : sequenceScorer(experts),
        score: 'softmax',
        choose: chooseTopK({ topK }),
        weigh: weighScores({ renormalise }),
      });
    },
  });
}

interface SequenceSaved {
  readonly linear: LinearSaved;
  /** float32 `[G, T]`. */
  readonly pool: Tensor2D;
  /** float32 `[T, G]`. */
  readonly spread: Tensor2D;
}

/** Logits of the mean row of a sequence, for each of its tokens; zeros for padding. */
function sequenceScorer(experts: number): Scorer {
  return {
    parameterShapes: (modelWidth) => ({ weight: [experts, modelWidth] }),
    forward: (x, { weight }, options) =>
      runOp('sequenceScorer', () => {
        const of = sequenceGroups(x.shape[0], options);
        const [pool, spread] = [poolMatrix(of), spreadMatrix(of)];
        const { value, saved } = linearForward(matMul<Tensor2D>(pool, x), weight as Tensor2D);
        return {
          value: matMul<Tensor2D>(spread, value),
          saved: { linear: saved, pool, spread } satisfies SequenceSaved,
        };
      }),
    backward: (saved, dlogits) =>
      runOp('sequenceScorer.backward', () => {
        const { linear, pool, spread } = saved as SequenceSaved;
        const { dx, dweight } = linearBackward(linear, matMul<Tensor2D>(spread, dlogits, true));
        return { dx: matMul<Tensor2D>(pool, dx, true), parameters: { weight: dweight } };
      }),
  };
}

interface PrefixSaved {
  readonly linear: LinearSaved;
  readonly prefix: Prefixes;
}

/** Sums along sequences. */
interface Prefixes {
  readonly sequences: number;
  /** float32 `[T, 1]`, 0 for padding. */
  readonly isIn: Tensor2D;
  /** float32 `[T, 1]`, 1 over the tokens so far. */
  readonly share: Tensor2D;
}

/** Logits of the mean row of the tokens up to each. */
function prefixScorer(experts: number): Scorer {
  return {
    parameterShapes: (modelWidth) => ({ weight: [experts, modelWidth] }),
    forward: (x, { weight }, options) =>
      runOp('prefixScorer', () => {
        const prefix = prefixesOf(x.shape[0], options);
        const means = mul<Tensor2D>(sumAlong(mul<Tensor2D>(x, prefix.isIn), prefix, false), prefix.share);
        const { value, saved } = linearForward(means, weight as Tensor2D);
        return { value, saved: { linear: saved, prefix } satisfies PrefixSaved };
      }),
    backward: (saved, dlogits) =>
      runOp('prefixScorer.backward', () => {
        const { linear, prefix } = saved as PrefixSaved;
        const { dx, dweight } = linearBackward(linear, dlogits);
        const drows = sumAlong(mul<Tensor2D>(dx, prefix.share), prefix, true);
        return { dx: mul<Tensor2D>(drows, prefix.isIn), parameters: { weight: dweight } };
      }),
  };
}

function prefixesOf(tokens: number, { sequences = 1, mask }: RouterOptions): Prefixes {
  const each = assertDivides(tokens, sequences, 'tokens of the batch by sequences');
  let seen = 0;
  const isIn = Float32Array.from({ length: tokens }, (_, t) => (mask?.[t] === 0 ? 0 : 1));
  const share = isIn.map((entry, t) => {
    seen = (t % each === 0 ? 0 : seen) + entry;
    return 1 / Math.max(1, seen);
  });
  return { sequences, isIn: tensor2d(isIn, [tokens, 1]), share: tensor2d(share, [tokens, 1]) };
}

/** Running sums of rows along each sequence, from its other end in `reverse`. */
function sumAlong(rows: Tensor2D, { sequences }: Prefixes, reverse: boolean): Tensor2D {
  const [tokens, width] = rows.shape;
  const split = reshape(rows, [sequences, tokens / sequences, width]);
  return reshape(cumsum(split, 1, false, reverse), [tokens, width]);
}
