/**
 * @file The flags every benchmark takes: `--smoke` (tiny, no peer, nothing written), `--rounds N`, `--json`.
 */
import { parseArgs } from 'node:util';

/** Parsed flags. */
export interface BenchmarkArguments {
  readonly smoke: boolean;
  readonly json: boolean;
  readonly rounds: number;
  readonly only: string | undefined;
}

/** Parses the command line. */
export function benchmarkArguments(): BenchmarkArguments {
  const { values } = parseArgs({
    options: {
      smoke: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '9' },
      only: { type: 'string' },
    },
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Error(`--rounds: must be an integer above 0, got ${values.rounds}`);
  return { smoke: values.smoke, json: values.json, rounds: values.smoke ? 1 : rounds, only: values.only };
}

/** Milliseconds with three digits. */
export function milliseconds(seconds: number): string {
  return (seconds * 1000).toPrecision(seconds >= 1 ? 4 : 3);
}

/** A ratio such as `1.52×`. */
export function times(ratio: number): string {
  return `${ratio.toFixed(2)}×`;
}
