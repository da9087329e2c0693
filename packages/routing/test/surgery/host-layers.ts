import { createRng, runSync } from '@moebius/core';
import { disposeTree, readHostSync, tensor } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import type { ExpertKind } from '../../src/define-expert.ts';
import { partShape } from '../../src/define-expert.ts';
import { createResidentSource } from '../../src/expert-source.ts';
import type { GateConfig } from '../../src/gate-config.ts';
import { gateForward } from '../../src/gate.ts';
import { createLocalExecutor } from '../../src/local-executor.ts';
import type { HostExpert, HostTensor } from '../../src/surgery/host-expert.ts';

/** A tensor of normal numbers. */
export function randomTensor(shape: readonly number[], seed: number | string): HostTensor {
  const data = new Float32Array(shape.reduce((size, axis) => size * axis, 1));
  createRng(seed).fillNormal(data);
  return { shape, data };
}

/** An expert of normal numbers. */
export function randomExpert(
  kind: ExpertKind,
  size: { readonly modelWidth: number; readonly hiddenWidth: number },
  seed: number | string,
): HostExpert {
  return Object.fromEntries(
    Object.keys(kind.parts).map((part) => [
      part,
      randomTensor(partShape(kind, part, size), `${seed} ${part}`),
    ]),
  );
}

/** What an expert gives for rows `[T, D]`. */
export function runExpert(kind: ExpertKind, expert: HostExpert, x: HostTensor): Float32Array {
  const parameters = Object.fromEntries(Object.entries(expert).map(([part, host]) => [part, upload(host)]));
  const rows = upload(x) as Tensor2D;
  const { value, saved } = kind.forward(rows, parameters);
  const result = Float32Array.from(readHostSync(value));
  disposeTree([value, saved, rows, parameters]);
  return result;
}

/** What a layer of experts behind a gate gives for rows `[T, D]`. */
export function runLayer(
  kind: ExpertKind,
  layer: { readonly experts: readonly HostExpert[]; readonly router: HostTensor; readonly gate: GateConfig },
  x: HostTensor,
): Float32Array {
  const units = layer.experts.map((expert) =>
    Object.fromEntries(Object.entries(expert).map(([part, host]) => [part, upload(host)])),
  );
  const hidden = upload(x) as Tensor2D;
  const weight = upload(layer.router) as Tensor2D;
  const experts = createResidentSource({ kinds: units.map(() => kind), read: (_layer, e) => units[e] ?? {} });
  const gate = gateForward(hidden, { weight }, { config: layer.gate });
  const { y, saved } = runSync(
    createLocalExecutor().forward({ layer: 0, hidden, route: gate.route, experts }),
  );
  const result = Float32Array.from(readHostSync(y));
  disposeTree([units, hidden, weight, gate, y, saved]);
  return result;
}

/** The largest difference, over the largest number. */
export function relativeDifference(got: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let size = 1e-6;
  for (const [at, value] of expected.entries()) {
    difference = Math.max(difference, Math.abs((got[at] ?? Infinity) - value));
    size = Math.max(size, Math.abs(value));
  }
  return difference / size;
}

/** The sum of lists of numbers. */
export function addUp(lists: readonly Float32Array[]): Float32Array {
  return Float32Array.from(lists[0] ?? [], (_, at) => lists.reduce((sum, list) => sum + (list[at] ?? 0), 0));
}

function upload({ shape, data }: HostTensor): ReturnType<typeof tensor> {
  return tensor(data.slice(), [...shape], 'float32');
}
