/**
 * @file Reads a fixture made by `__fixtures__/make_fixture.py`. The few lines of safetensors below are independent of
 * `@moebius/safetensors` on purpose: the oracle must not share its reader.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A float32 or int32 tensor of a fixture. */
export interface FixtureTensor {
  readonly shape: number[];
  readonly values: Float32Array | Int32Array;
}

/** What `reference.json` says. */
export interface FixtureReference {
  readonly transformers: string;
  readonly torch: string;
  readonly seed: number;
  readonly loss: number;
  readonly cross_entropy: number;
  readonly router_aux_loss: number;
  readonly greedy_prompt: number[];
  readonly greedy_tokens: number[];
  readonly parameters: number;
}

/** One fixture. */
export interface Fixture {
  readonly folder: string;
  readonly reference: FixtureReference;
  readonly weights: Readonly<Record<string, FixtureTensor>>;
  readonly expected: Readonly<Record<string, FixtureTensor>>;
}

export const fixtureNames = ['qwen3-moe-mixed', 'qwen3-moe-tied'] as const;

/** Reads every tensor of a small safetensors file. */
export function readTensors(file: string): Record<string, FixtureTensor> {
  const bytes = readFileSync(file);
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerLength)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors: Record<string, FixtureTensor> = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [begin, end] = entry.data_offsets;
    const data = new Uint8Array(bytes.subarray(8 + headerLength + begin, 8 + headerLength + end)).buffer;
    const values = entry.dtype === 'I32' ? new Int32Array(data) : new Float32Array(data);
    tensors[name] = { shape: entry.shape, values };
  }
  return tensors;
}

/** Reads one fixture by folder name. */
export function readFixture(name: string): Fixture {
  const folder = fileURLToPath(new URL(`./__fixtures__/${name}`, import.meta.url));
  return {
    folder,
    reference: JSON.parse(readFileSync(`${folder}/reference.json`, 'utf8')) as FixtureReference,
    weights: readTensors(`${folder}/model.safetensors`),
    expected: readTensors(`${folder}/reference.safetensors`),
  };
}

/** A fixture tensor, or a failure that names it. */
export function tensorOf(tensors: Readonly<Record<string, FixtureTensor>>, name: string): FixtureTensor {
  const found = tensors[name];
  if (found === undefined) throw new Error(`fixture: no tensor ${name}`);
  return found;
}
