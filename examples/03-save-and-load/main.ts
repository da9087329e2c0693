/**
 * A model folder as Hugging Face writes it: saved here, listed without loading a single weight, loaded, and continued
 * greedily with the same tokens. Python's transformers opens the same folder.
 *
 * Run: node --import tsx --conditions=@moebius/source 03-save-and-load/main.ts
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createRng } from '@moebius/core';
import {
  createModel,
  generate,
  initialiseParameters,
  loadModel,
  parseModelConfig,
  saveModel,
} from '@moebius/model';
import type { DecoderModel } from '@moebius/model';
import { openSafetensors } from '@moebius/safetensors';
import { createEngine } from '@moebius/tensor';

await createEngine({ engine: 'auto' });
const folder = join(await mkdtemp(join(tmpdir(), 'moebius-')), 'model');

const config = parseModelConfig({
  model_type: 'qwen3_moe',
  vocab_size: 128,
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  num_experts: 4,
  num_experts_per_tok: 2,
  moe_intermediate_size: 24,
});
const model = createModel({ config, parameters: initialiseParameters(config, createRng(5)) });
await saveModel(folder, model);

const file = await openSafetensors(join(folder, 'model.safetensors'));
const names = file.names();
console.log(`${names.length} tensors, the first three:`);
for (const name of names.slice(0, 3)) {
  const { dtype, shape } = file.info(name);
  console.log(`  ${name}  ${dtype} [${shape.join(', ')}]`);
}
await file.close();

const loaded = await loadModel(folder);
const before = await continuation(model);
const after = await continuation(loaded);
console.log(`saved  ${before.join(' ')}`);
console.log(`loaded ${after.join(' ')}`);
if (before.join() !== after.join()) throw new Error('the loaded model must continue like the saved one');
model.dispose();
loaded.dispose();
await rm(join(folder, '..'), { recursive: true });

async function continuation(from: DecoderModel): Promise<number[]> {
  const tokens: number[] = [];
  for await (const { token } of generate(from, [1, 2, 3], { maxNewTokens: 10 })) tokens.push(token);
  return tokens;
}
