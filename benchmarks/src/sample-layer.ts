/**
 * @file One MoE layer with random weights: what the benchmarks of single layers run.
 */
import { createRng } from '@moebius/core';
import {
  createLocalExecutor,
  createResidentSource,
  gatedExpert,
  parseGateConfig,
  type ExpertExecutor,
  type ExpertParameters,
  type ExpertSource,
  type GateConfig,
} from '@moebius/routing';
import { disposeTree, tensor2d, type Tensor2D } from '@moebius/tensor';

/** Sizes of a layer. */
export interface LayerSize {
  /** E. */
  readonly experts: number;
  /** D. */
  readonly width: number;
  /** F. */
  readonly hidden: number;
  /** K. */
  readonly topK: number;
  /** T. */
  readonly tokens: number;
}

/** A layer and the rows that enter it. */
export interface SampleLayer {
  readonly config: GateConfig;
  /** float32 `[E, D]`. */
  readonly router: Tensor2D;
  /** float32 `[T, D]`. */
  readonly x_TD: Tensor2D;
  readonly source: ExpertSource;
  readonly executor: ExpertExecutor;
  dispose(): void;
}

/** Makes a layer; the same sizes give the same numbers. */
export function createSampleLayer(size: LayerSize): SampleLayer {
  const { experts, width, hidden, topK, tokens } = size;
  const rng = createRng(1);
  const matrix = (rows: number, columns: number, standardDeviation: number): Tensor2D => {
    const data = new Float32Array(rows * columns);
    rng.fillNormal(data, { standardDeviation });
    return tensor2d(data, [rows, columns]);
  };
  const weights: ExpertParameters[] = Array.from({ length: experts }, () => ({
    gate: matrix(hidden, width, 0.02),
    up: matrix(hidden, width, 0.02),
    down: matrix(hidden, width, 0.02),
  }));
  const router = matrix(experts, width, 0.02);
  const x_TD = matrix(tokens, width, 1);
  const kind = gatedExpert();
  return {
    config: parseGateConfig({ experts, topK, score: 'softmax', renormalise: true }),
    router,
    x_TD,
    source: createResidentSource({
      kinds: weights.map(() => kind),
      read: (_, expert) => weights[expert] ?? {},
    }),
    executor: createLocalExecutor(),
    dispose: () => disposeTree({ weights, router, x_TD }),
  };
}
