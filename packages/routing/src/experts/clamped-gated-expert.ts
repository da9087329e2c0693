/**
 * @file The clamped gated expert of gpt-oss (OpenAI 2025, arXiv 2508.10925), with biases.
 *
 * ```
 * g = min(x Gᵀ + b₁, limit)    u = clamp(x Uᵀ + b₂, −limit, limit)    y = ((u + 1) ⊙ g ⊙ σ(slope·g)) Dn + b₃
 * ```
 * Letters: `R` rows, `D` model width, `F` hidden width.
 */
import { MoebiusError } from '@moebius/core';
import {
  abs,
  add,
  cast,
  assertDivides,
  cloneTensor,
  gather,
  greater,
  linearBackward,
  linearForward,
  matMul,
  maximum,
  minimum,
  mul,
  runOp,
  sigmoid,
  sub,
  sum,
  tensor1d,
} from '@moebius/tensor';
import type { LinearSaved, Tensor, Tensor1D, Tensor2D } from '@moebius/tensor';

import { defineExpert } from '../define-expert.ts';
import type { ExpertBackward, ExpertForward, ExpertKind, ExpertParameters } from '../define-expert.ts';

/** Settings of {@link clampedGatedExpert}. */
export interface ClampedGatedOptions {
  /** Largest gate, and largest size of an up value. Default 7. */
  readonly limit?: number;
  /** Slope of the sigmoid. Default 1.702, which makes `g σ(1.702 g)` close to GELU. */
  readonly slope?: number;
}

interface ClampedSaved {
  readonly gate: LinearSaved;
  readonly up: LinearSaved;
  /** float32 `[R, F]`, before the clamps. */
  readonly g: Tensor2D;
  /** float32 `[R, F]` */
  readonly u: Tensor2D;
  /** float32 `[F, D]` */
  readonly down: Tensor2D;
}

/**
 * The expert of gpt-oss. Parts `gate`, `up`, `down` `[F, D]`, `gateBias`, `upBias` `[F]`, `downBias` `[D]`. Where a clamp holds,
 * the gradient is 0. Files keep gate and up interleaved: {@link splitGateUp}.
 *
 * @param options - limit and slope
 * @returns a kind named `clamped-gated`, and with other settings than gpt-oss's, after them
 * @throws `configuration` when a setting is not above 0
 */
export function clampedGatedExpert(options: ClampedGatedOptions = {}): ExpertKind {
  const { limit = 7, slope = 1.702 } = options;
  assertPositive('limit', limit);
  assertPositive('slope', slope);
  const usual = limit === 7 && slope === 1.702;
  return defineExpert({
    name: usual ? 'clamped-gated' : `clamped-gated-${inName(limit)}-${inName(slope)}`,
    parts: {
      gate: ['F', 'D'],
      up: ['F', 'D'],
      down: ['F', 'D'],
      gateBias: ['F'],
      upBias: ['F'],
      downBias: ['D'],
    },
    neuronAxis: 'F',
    forward: (x, parameters) => clampedForward(x, parameters, { limit, slope }),
    backward: (saved, dy) => clampedBackward(saved as ClampedSaved, dy, { limit, slope }),
    flops: (rows, { modelWidth, hiddenWidth }) => rows * (hiddenWidth * (6 * modelWidth + 8) + modelWidth),
    trusted: true,
  });
}

function clampedForward(
  x_RD: Tensor2D,
  parameters: ExpertParameters,
  { limit, slope }: Required<ClampedGatedOptions>,
): ExpertForward {
  const { gate, up, down } = parameters as { readonly [part: string]: Tensor2D };
  const { gateBias, upBias, downBias } = parameters as { readonly [part: string]: Tensor1D };
  return runOp('clampedGatedExpert', () => {
    const g = linearForward(x_RD, gate as Tensor2D, gateBias);
    const u = linearForward(x_RD, up as Tensor2D, upBias);
    const clamped_RF = minimum(g.value, limit);
    const bounded_RF = maximum(minimum(u.value, limit), -limit);
    const hidden_RF = mul(mul(clamped_RF, sigmoid(mul(clamped_RF, slope))), add(bounded_RF, 1));
    const value = add<Tensor2D>(matMul(hidden_RF, down as Tensor2D), downBias as Tensor1D);
    const saved: ClampedSaved = {
      gate: g.saved,
      up: u.saved,
      g: g.value,
      u: u.value,
      down: cloneTensor(down as Tensor2D),
    };
    return { value, saved };
  });
}

function clampedBackward(
  saved: ClampedSaved,
  dy_RD: Tensor2D,
  { limit, slope }: Required<ClampedGatedOptions>,
): ExpertBackward {
  const { g, u, down } = saved;
  return runOp('clampedGatedExpert.backward', () => {
    const clamped_RF = minimum(g, limit);
    const share_RF = sigmoid(mul(clamped_RF, slope));
    const acted_RF = mul(clamped_RF, share_RF);
    const lifted_RF = add(maximum(minimum(u, limit), -limit), 1);
    const dhidden_RF = matMul(dy_RD, down, false, true);
    const slope_RF = mul(share_RF, add(1, mul(mul(clamped_RF, slope), sub(1, share_RF))));
    const dg_RF = inside(sub(limit, g), mul(mul(dhidden_RF, lifted_RF), slope_RF));
    const du_RF = inside(sub(limit, abs(u)), mul(dhidden_RF, acted_RF));
    const gate = linearBackward(saved.gate, dg_RF);
    const up = linearBackward(saved.up, du_RF);
    return {
      dx: add<Tensor2D>(gate.dx, up.dx),
      parameters: {
        gate: gate.dweight,
        up: up.dweight,
        down: matMul(mul(acted_RF, lifted_RF), dy_RD, true, false),
        gateBias: gate.dbias as Tensor1D,
        upBias: up.dbias as Tensor1D,
        downBias: sum<Tensor1D>(dy_RD, 0),
      },
    };
  });
}

/** The gradient where there is room left below the limit, else 0. */
function inside(room: Tensor, gradient: Tensor): Tensor2D {
  return mul<Tensor2D>(gradient, cast(greater(room, 0), 'float32'));
}

function assertPositive(name: string, value: number): void {
  if (value > 0 && Number.isFinite(value)) return;
  throw new MoebiusError({
    code: 'configuration',
    message: `clampedGatedExpert.${name}: must be above 0, got ${value}`,
    details: { [name]: String(value) },
  });
}

function inName(value: number): string {
  return String(value).replace('.', '-');
}

/** How a file keeps gate and up in one tensor: row by row in turn (gpt-oss), or gate first (GraniteMoE, transformers). */
export type GateUpLayout = 'interleaved' | 'halves';

/**
 * The gate and the up matrix out of one tensor that holds both.
 *
 * @param gateUp - float32 `[2F, D]` or, of biases, `[2F]`; borrowed
 * @param layout - how they lie
 * @returns gate and up, each float32 `[F, D]` or `[F]`; the caller owns them
 * @throws `shape` when the number of rows is odd
 */
export function splitGateUp<T extends Tensor1D | Tensor2D>(
  gateUp: T,
  layout: GateUpLayout,
): { gate: T; up: T } {
  const rows = gateUp.shape[0];
  const half = assertDivides(rows, 2, 'splitGateUp rows by 2');
  const [first, second] = layout === 'interleaved' ? [0, 1] : [0, half];
  const step = layout === 'interleaved' ? 2 : 1;
  const pick = (from: number): T =>
    gather(
      gateUp,
      tensor1d(
        Int32Array.from({ length: half }, (_, row) => from + step * row),
        'int32',
      ),
    );
  return runOp('splitGateUp', () => ({ gate: pick(first), up: pick(second) }));
}
