/**
 * @file The built-in kinds of expert: gated and plain feed-forward networks, identity and null ("zero") experts.
 *
 * Letters: `R` rows, `D` model width, `F` hidden width.
 */
import {
  cloneTensor,
  expertFeedForwardBackward,
  expertFeedForwardForward,
  feedForwardBackward,
  feedForwardForward,
  gatedFeedForwardBackward,
  gatedFeedForwardForward,
  zerosLike,
} from '@moebius/tensor';
import type {
  Activation,
  ExpertFeedForwardSaved,
  FeedForwardSaved,
  GatedFeedForwardSaved,
  GatedWeights,
  PlainWeights,
} from '@moebius/tensor';

import { defineExpert } from './define-expert.ts';
import type { ExpertGradients, ExpertKind, ExpertParameters, FusedLayer } from './define-expert.ts';
import { clampedGatedExpert } from './experts/clamped-gated-expert.ts';
import { constantExpert } from './experts/constant-expert.ts';

/** Settings of feed-forward experts. */
export interface FeedForwardExpertOptions {
  /** Default `silu`. */
  readonly activation?: Activation;
}

/**
 * `y = (act(x Gᵀ) ⊙ x Uᵀ) Dn`: the expert of Mixtral, Qwen, OLMoE, DeepSeek and Granite. Parts `gate`, `up`, `down`, each
 * `[F, D]`. Has a fused form over a whole layer.
 *
 * @param options - activation
 * @returns a kind named `gated-<activation>`
 */
export function gatedExpert(options: FeedForwardExpertOptions = {}): ExpertKind {
  const activation = options.activation ?? 'silu';
  return defineExpert({
    name: `gated-${activation.replace('_', '-')}`,
    parts: { gate: ['F', 'D'], up: ['F', 'D'], down: ['F', 'D'] },
    neuronAxis: 'F',
    forward: (x, parameters) => gatedFeedForwardForward(x, gatedWeights(parameters), { activation }),
    backward: (saved, dy) => {
      const { dx, dweights } = gatedFeedForwardBackward(saved as GatedFeedForwardSaved, dy);
      return { dx, parameters: { ...dweights } };
    },
    flops: (rows, { modelWidth, hiddenWidth }) => rows * hiddenWidth * (6 * modelWidth + 2),
    fused: fusedGated(activation),
    trusted: true,
  });
}

function fusedGated(activation: Activation): FusedLayer {
  return {
    forward: (x, weights, { experts, plan }) =>
      expertFeedForwardForward(x, weights, { experts: experts.map(gatedWeights), plan, activation }),
    backward: (saved, dy) => {
      const { dx, dweights, experts } = expertFeedForwardBackward(saved as ExpertFeedForwardSaved, dy);
      return { dx, dweights, experts: experts.map((expert): ExpertGradients => ({ ...expert })) };
    },
  };
}

/** Settings of {@link plainExpert}. */
export interface PlainExpertOptions extends FeedForwardExpertOptions {
  /** Whether both layers have a bias: parts `upBias` `[F]` and `downBias` `[D]`. Default false. */
  readonly bias?: boolean;
}

/**
 * `y = act(x Uᵀ + b₁) Dn + b₂`: the expert of Switch (ReLU, without bias). Parts `up`, `down` `[F, D]`, and with `bias`
 * `upBias` `[F]`, `downBias` `[D]`.
 *
 * @param options - activation and bias
 * @returns a kind named `plain-<activation>` or `plain-<activation>-bias`
 */
export function plainExpert(options: PlainExpertOptions = {}): ExpertKind {
  const activation = options.activation ?? 'silu';
  const bias = options.bias ?? false;
  return defineExpert({
    name: `plain-${activation.replace('_', '-')}${bias ? '-bias' : ''}`,
    parts: {
      up: ['F', 'D'],
      down: ['F', 'D'],
      ...(bias ? { upBias: ['F'] as const, downBias: ['D'] as const } : {}),
    },
    neuronAxis: 'F',
    forward: (x, parameters) => feedForwardForward(x, parameters as unknown as PlainWeights, { activation }),
    backward: (saved, dy) => {
      const { dx, dweights } = feedForwardBackward(saved as FeedForwardSaved, dy);
      return { dx, parameters: { ...dweights } };
    },
    flops: (rows, { modelWidth, hiddenWidth }) =>
      rows * (hiddenWidth * (4 * modelWidth + 1) + (bias ? hiddenWidth + modelWidth : 0)),
    trusted: true,
  });
}

/**
 * `y = x`: LongCat's zero experts of type identity. No parts.
 *
 * @returns a kind named `identity`
 */
export function identityExpert(): ExpertKind {
  return defineExpert({
    name: 'identity',
    parts: {},
    neuronAxis: null,
    forward: (x) => ({ value: cloneTensor(x), saved: null }),
    backward: (_saved, dy) => ({ dx: cloneTensor(dy), parameters: {} }),
    flops: () => 0,
    trusted: true,
  });
}

/**
 * `y = 0`: an expert that lets a token skip the layer. No parts.
 *
 * @returns a kind named `null`
 */
export function nullExpert(): ExpertKind {
  return defineExpert({
    name: 'null',
    parts: {},
    neuronAxis: null,
    forward: (x) => ({ value: zerosLike(x), saved: null }),
    backward: (_saved, dy) => ({ dx: zerosLike(dy), parameters: {} }),
    flops: () => 0,
    trusted: true,
  });
}

function gatedWeights(parameters: ExpertParameters): GatedWeights {
  return parameters as unknown as GatedWeights;
}

const activations: readonly Activation[] = ['silu', 'gelu', 'gelu_tanh', 'relu'];

/**
 * The built-in kinds, each under its name: what a name in a file can mean without a plug-in.
 *
 * @returns `gated-silu` … `plain-relu-bias`, `clamped-gated`, `identity`, `null`, `constant`, `constant-mixed`
 */
export function builtInExperts(): readonly ExpertKind[] {
  return [
    ...activations.flatMap((activation) => [
      gatedExpert({ activation }),
      plainExpert({ activation }),
      plainExpert({ activation, bias: true }),
    ]),
    clampedGatedExpert(),
    identityExpert(),
    nullExpert(),
    constantExpert(),
    constantExpert({ mixed: true }),
  ];
}
