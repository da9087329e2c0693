/**
 * @file Conformance kit of expert kinds.
 */
import { disposeTree, tensor, tensor2d } from '@moebius/tensor';
import type { Tensor2D } from '@moebius/tensor';

import {
  check,
  checkClose,
  checkSame,
  checkGradient,
  inner,
  kitRng,
  randomTensor,
  randomValues,
  valuesOf,
  withoutLeak,
} from './checks.ts';
import type { TestApi, Tolerance } from './checks.ts';
import { partShape } from '../define-expert.ts';
import type { ExpertKind, ExpertParameters } from '../define-expert.ts';

/** Settings of {@link describeExpert}. */
export interface DescribeExpertOptions extends TestApi {
  /** Default 5. */
  readonly modelWidth?: number;
  /** Default 7. */
  readonly hiddenWidth?: number;
  /** Of gradients against differences. */
  readonly tolerance?: Tolerance;
}

/**
 * Registers the tests that every kind of expert must pass. Start an engine before they run.
 *
 * Shapes; rows do not see each other; borrow in, own out; no leak; deterministic; gradients of rows and of every part equal
 * central differences, and a base has none; a merged base computes the same; flops are additive in rows.
 *
 * @param kind - the kind
 * @param options - `describe` and `it` of the test runner, sizes
 */
export function describeExpert(kind: ExpertKind, options: DescribeExpertOptions): void {
  const { describe, it, modelWidth = 5, hiddenWidth = 7 } = options;
  const size = { modelWidth, hiddenWidth };
  const rng = kitRng(`expert ${kind.name}`);
  const makeParameters = (): ExpertParameters =>
    Object.fromEntries(
      [...Object.keys(kind.base?.kind.parts ?? {}), ...Object.keys(kind.parts)].map((part) => [
        part,
        randomTensor(rng.fork(part), partShape(kind, part, size), 0.5),
      ]),
    );
  const rowsOf = (rows: number): Tensor2D => randomTensor(rng.fork(`rows ${rows}`), [rows, modelWidth]);

  describe(`expert kind ${kind.name}`, () => {
    it('keeps the shape of its rows, borrows its inputs and frees what it does not return', () => {
      for (const rows of [1, 6]) {
        withoutLeak(kind.name, () => {
          const x = rowsOf(rows);
          const parameters = makeParameters();
          const before = valuesOf(x);
          const { value, saved } = kind.forward(x, parameters);
          check(
            value.shape[0] === rows && value.shape[1] === modelWidth,
            `forward: must be [${rows}, ${modelWidth}], got [${value.shape}]`,
          );
          const { dx, parameters: gradients } = kind.backward(saved, value);
          checkSame(valuesOf(x), before, 'x after both passes');
          check(
            !Object.values(parameters).some((part) => part.isDisposed),
            'parameters: must not be disposed',
          );
          check(
            dx.shape[0] === rows && dx.shape[1] === modelWidth,
            `dx: must be [${rows}, ${modelWidth}], got [${dx.shape}]`,
          );
          const strangers = Object.keys(gradients).filter((part) => !Object.hasOwn(kind.parts, part));
          check(
            strangers.length === 0,
            `gradients: must be of its own parts only, got ${strangers.join(', ')}`,
          );
          for (const part of Object.keys(kind.parts)) {
            const shape = String(gradients[part]?.shape);
            check(
              shape === String(partShape(kind, part, size)),
              `gradient of ${part}: must be [${partShape(kind, part, size)}], got [${shape}]`,
            );
          }
          disposeTree([x, parameters, value, saved, dx, gradients]);
        });
      }
    });

    it('merges with its base into an expert that computes the same', () => {
      const { base } = kind;
      if (base === undefined) return;
      withoutLeak(kind.name, () => {
        const x = rowsOf(4);
        const parameters = makeParameters();
        const merged = base.merge(parameters);
        const [own, dense] = [kind.forward(x, parameters), base.kind.forward(x, merged)];
        checkClose(valuesOf(dense.value), valuesOf(own.value), `the merged ${base.kind.name}`);
        disposeTree([x, parameters, merged, own, dense]);
      });
    });

    it('computes each row from that row alone', () => {
      withoutLeak(kind.name, () => {
        const x = rowsOf(4);
        const parameters = makeParameters();
        const all = kind.forward(x, parameters);
        const whole = valuesOf(all.value);
        for (let row = 0; row < 4; row += 1) {
          const alone = tensor2d(valuesOf(x).slice(row * modelWidth, (row + 1) * modelWidth), [
            1,
            modelWidth,
          ]);
          const one = kind.forward(alone, parameters);
          checkClose(
            valuesOf(one.value),
            whole.slice(row * modelWidth, (row + 1) * modelWidth),
            `row ${row}`,
            { relative: 1e-5, absolute: 1e-5 },
          );
          disposeTree([alone, one]);
        }
        disposeTree([x, parameters, all]);
      });
    });

    it('gives the same bytes twice', () => {
      withoutLeak(kind.name, () => {
        const x = rowsOf(5);
        const parameters = makeParameters();
        const first = kind.forward(x, parameters);
        const second = kind.forward(x, parameters);
        checkSame(valuesOf(second.value), valuesOf(first.value), 'second forward');
        disposeTree([x, parameters, first, second]);
      });
    });

    it('has the gradients of its forward', () => {
      withoutLeak(kind.name, () =>
        checkExpertGradients(kind, { x: rowsOf(3), parameters: makeParameters() }, options.tolerance ?? {}),
      );
    });

    it('counts operations in proportion to rows', () => {
      const one = kind.flops(1, size);
      check(Number.isInteger(one) && one >= 0, `flops: must be an integer of at least 0, got ${one}`);
      check(
        kind.flops(12, size) === 12 * one,
        `flops of 12 rows: must be ${12 * one}, got ${kind.flops(12, size)}`,
      );
      check(kind.flops(0, size) === 0, `flops of 0 rows: must be 0, got ${kind.flops(0, size)}`);
    });
  });
}

function checkExpertGradients(
  kind: ExpertKind,
  inputs: { readonly x: Tensor2D; readonly parameters: ExpertParameters },
  tolerance: Tolerance,
): void {
  const { x, parameters } = inputs;
  const direction = randomValues(kitRng('direction'), x.size);
  const dy = tensor2d(direction, x.shape);
  const { value, saved } = kind.forward(x, parameters);
  const { dx, parameters: gradients } = kind.backward(saved, dy);
  const valueAt = (rows: Tensor2D, parts: ExpertParameters): number => {
    const run = kind.forward(rows, parts);
    const result = inner(valuesOf(run.value), direction);
    disposeTree(run);
    return result;
  };
  checkGradient(valuesOf(dx), {
    ...tolerance,
    subject: 'dx',
    at: valuesOf(x),
    f: (values) => {
      const moved = tensor2d(values, x.shape);
      const result = valueAt(moved, parameters);
      moved.dispose();
      return result;
    },
  });
  for (const part of Object.keys(kind.parts)) {
    const original = parameters[part]!;
    const gradient = gradients[part];
    check(gradient !== undefined, `gradient of ${part}: must be given`);
    checkGradient(gradient === undefined ? [] : valuesOf(gradient), {
      ...tolerance,
      subject: `gradient of ${part}`,
      at: valuesOf(original),
      f: (values) => {
        const moved = tensor(values, original.shape);
        const result = valueAt(x, { ...parameters, [part]: moved });
        moved.dispose();
        return result;
      },
    });
  }
  disposeTree([x, parameters, dy, value, saved, dx, gradients]);
}
