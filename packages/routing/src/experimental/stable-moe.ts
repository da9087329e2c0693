/**
 * @file StableMoE: learn to route with a light router beside, then freeze it (Dai et al. 2022, arXiv 2204.08396, §3).
 *
 * ```
 * stage 1:  s_e = x·c_e,   expert = argmax s,   weight = σ(s)                 the balance loss acts on σ(s)
 *           light router:  ŝ_e = emb[token id]·ĉ_e,   + distillation · CE(ŝ, argmax s)
 * stage 2:  expert = argmax ŝ of the frozen light router,   weight = σ(s of that expert)
 * ```
 * The light tensors are *parameters* in stage 1 and *buffers* in stage 2, under the same names: a model folder of stage 1 opens as
 * stage 2, where no gradient, no optimizer and no weight decay can reach them.
 *
 * **Not settled:** the length of stage 1; the distillation loss is added to the gradient of the light tensors by the router itself, as it has no
 * way into a run's losses (its value: {@link distilRouteForward}).
 *
 * Letters: `T` tokens · `D` model width · `E` experts · `V` vocabulary · `L` light width.
 */
import { MoebiusError, parseConfig, z } from '@moebius/core';
import {
  argMax,
  disposeTree,
  embeddingBackward,
  embeddingForward,
  linearBackward,
  linearForward,
  readHostSync,
  softmaxCrossEntropyBackward,
  softmaxCrossEntropyForward,
  zeros,
} from '@moebius/tensor';
import type {
  EmbeddingSaved,
  Forward,
  LinearSaved,
  Scalar,
  SoftmaxCrossEntropySaved,
  Tensor2D,
} from '@moebius/tensor';

import type { Router, RouterOptions } from '../define-router.ts';
import { chooseTopK, composeRouter, linearScorer, weighScores } from '../gates/index.ts';
import type { Choice, ChooseInput, Scorer } from '../gates/index.ts';
import { defineRouterFactory } from '../router-factory.ts';
import type { RouterFactory } from '../router-factory.ts';
import { lightArgMax } from './stable-moe.kernel.ts';

/** Settings of {@link stableMoeRouter}. */
export interface StableMoeOptions {
  /** `E`. */
  readonly experts: number;
  /** 1: learn; 2: the light router is frozen and chooses. */
  readonly stage: 1 | 2;
  /** `V`. */
  readonly vocabulary: number;
  /** `L`. Default 50. */
  readonly width?: number;
  /** Coefficient of the distillation loss in stage 1, in training. Default 1. */
  readonly distillation?: number;
}

const schema = z.strictObject({
  experts: z.int().min(1),
  stage: z.union([z.literal(1), z.literal(2)]),
  vocabulary: z.int().min(1),
  width: z.int().min(1).default(50),
  distillation: z.number().min(0).default(1),
});

type Settings = Required<StableMoeOptions>;

/**
 * A router named `stable-moe`, one expert a token. Tensor `weight` `[E, D]` (centroids), and `lightEmbedding` `[V, L]`, `lightCentroids` `[E, L]`:
 * trained in stage 1, buffers in stage 2. It needs token ids.
 *
 * @param options - experts, stage, vocabulary
 * @throws `configuration` naming every fault; forward: `data` without ids or with one outside the vocabulary
 */
export function stableMoeRouter(options: StableMoeOptions): Router {
  const settings = parseConfig(schema, options, 'stable-moe') as Settings;
  const { experts, vocabulary, width, stage } = settings;
  const common = { name: 'stable-moe', experts, topK: 1, score: 'sigmoid' as const, weigh: weighScores() };
  const centroids = linearScorer({ columns: experts });
  if (stage === 1) {
    return composeRouter({
      ...common,
      scorer: distillingScorer(centroids, settings),
      choose: chooseTopK({ topK: 1 }),
    });
  }
  return composeRouter({
    ...common,
    scorer: centroids,
    choose: (input) => chooseLight(input, settings),
    buffers: { shapes: { lightEmbedding: [vocabulary, width], lightCentroids: [experts, width] } },
  });
}

/** The router by name: `{ "name": "stable-moe", "options": { "stage": 1, "vocabulary": 4096 } }`. */
export const stableMoe: RouterFactory = defineRouterFactory({
  name: 'stable-moe',
  create: ({ experts }, options) => stableMoeRouter({ experts, ...options } as StableMoeOptions),
});

/** Tensors of the light router. */
export interface LightRouter {
  /** float32 `[V, L]`. */
  readonly lightEmbedding: Tensor2D;
  /** float32 `[E, L]`. */
  readonly lightCentroids: Tensor2D;
}

/** What {@link distilRouteBackward} needs. */
export interface DistilRouteSaved {
  readonly embedding: EmbeddingSaved;
  readonly linear: LinearSaved;
  readonly loss: SoftmaxCrossEntropySaved;
}

/**
 * Cross-entropy of the light router against where tokens went.
 *
 * @param light - its tensors, borrowed
 * @param seen - Int32Array `[T]` token ids, and Int32Array `[T]` the expert of each token, -1: not counted
 * @returns the mean over counted tokens, and what backward needs; the caller owns both
 * @throws `data` on an id outside the vocabulary
 */
export function distilRouteForward(
  light: LightRouter,
  seen: { readonly ids: Int32Array; readonly experts: Int32Array },
): Forward<Scalar, DistilRouteSaved> {
  const rows = embeddingForward(light.lightEmbedding, seen.ids);
  const logits = linearForward(rows.value, light.lightCentroids);
  const { value, saved } = softmaxCrossEntropyForward(logits.value, seen.experts);
  const { loss, ...others } = value;
  disposeTree([rows.value, logits.value, others]);
  return { value: loss as Scalar, saved: { embedding: rows.saved, linear: logits.saved, loss: saved } };
}

/**
 * Gradients of {@link distilRouteForward}.
 *
 * @param saved - borrowed
 * @param scale - coefficient times the loss scale
 * @returns those of both tensors; the caller owns them
 */
export function distilRouteBackward(saved: DistilRouteSaved, scale: number = 1): LightRouter {
  const { dlogits } = softmaxCrossEntropyBackward(saved.loss, scale);
  const { dx, dweight } = linearBackward(saved.linear, dlogits);
  const { dtable } = embeddingBackward(saved.embedding, dx);
  disposeTree([dlogits, dx]);
  return { lightEmbedding: dtable, lightCentroids: dweight };
}

interface DistillingSaved {
  readonly centroids: unknown;
  readonly distil: DistilRouteSaved | null;
}

/** The centroids, with the light router learning beside them where there is training. */
function distillingScorer(centroids: Scorer, settings: Settings): Scorer {
  const { experts, vocabulary, width, distillation } = settings;
  return {
    parameterShapes: (modelWidth) => ({
      ...centroids.parameterShapes(modelWidth),
      lightEmbedding: [vocabulary, width],
      lightCentroids: [experts, width],
    }),
    forward: (x, parameters, options) => {
      const { value, saved } = centroids.forward(x, parameters, options);
      const learns = options.phase === 'train' && distillation > 0 && x.shape[0] > 0;
      const distil = learns ? distilOf(value, parameters as unknown as LightRouter, options) : null;
      return { value, saved: { centroids: saved, distil } satisfies DistillingSaved };
    },
    backward: (saved, dlogits) => {
      const { centroids: kept, distil } = saved as DistillingSaved;
      const { dx, parameters } = centroids.backward(kept, dlogits);
      const light =
        distil === null
          ? { lightEmbedding: zeros([vocabulary, width]), lightCentroids: zeros([experts, width]) }
          : distilRouteBackward(distil, distillation);
      return { dx, parameters: { ...parameters, ...light } };
    },
  };
}

function distilOf(logits_TE: Tensor2D, light: LightRouter, { ids, mask }: RouterOptions): DistilRouteSaved {
  const teacher = argMax(logits_TE, 1);
  const experts = Int32Array.from(readHostSync(teacher), (e, t) => (mask?.[t] === 0 ? -1 : e));
  teacher.dispose();
  const { value, saved } = distilRouteForward(light, { ids: idsOf(ids, logits_TE.shape[0]), experts });
  value.dispose();
  return saved;
}

function chooseLight({ tokens, mask, options, buffers, experts }: ChooseInput, settings: Settings): Choice {
  const ids = idsOf(options.ids, tokens);
  const { vocabulary, width } = settings;
  const outside = ids.find((id, t) => mask?.[t] !== 0 && (id < 0 || id >= vocabulary));
  if (outside !== undefined) {
    throw new MoebiusError({
      code: 'data',
      message: `router "stable-moe": token ids must be in 0…${vocabulary - 1}, got ${outside}`,
      details: { id: outside, vocabulary },
    });
  }
  const { lightEmbedding = new Float32Array(), lightCentroids = new Float32Array() } = buffers;
  const tokenOffsets = new Int32Array(tokens + 1);
  const chosen: number[] = [];
  for (let t = 0; t < tokens; t += 1) {
    if (mask?.[t] !== 0)
      chosen.push(lightArgMax(ids[t] ?? 0, { lightEmbedding, lightCentroids, width, experts }));
    tokenOffsets[t + 1] = chosen.length;
  }
  return { ids: Int32Array.from(chosen), tokenOffsets };
}

function idsOf(ids: Int32Array | undefined, tokens: number): Int32Array {
  if (ids !== undefined && ids.length === tokens) return ids;
  throw new MoebiusError({
    code: 'data',
    message: `router "stable-moe": token ids must be given for ${tokens} tokens, got ${ids?.length ?? 'none'} (run it in a model, or pass ids)`,
    details: { tokens, ids: ids?.length ?? 0 },
  });
}
