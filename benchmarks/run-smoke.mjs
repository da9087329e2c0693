/** Runs every benchmark in smoke size, which checks that it finishes and claims nothing. */
import { spawnSync } from 'node:child_process';

const folder = new URL('.', import.meta.url);
for (const name of [
  'fine-tune',
  'capacity-planning',
  'capacity-study',
  'capacity-wall-time',
  'data-pipeline',
  'kernels',
  'language-model',
  'memory',
  'moe-layer',
  'optimizers',
  'profile',
  'reference-ablation',
  'trainer-overhead',
  'wasm-smoke',
]) {
  const began = performance.now();
  const flags = ['--import', 'tsx', '--conditions=@moebius/source', `src/${name}.ts`, '--smoke'];
  const { status } = spawnSync(process.execPath, flags, { cwd: folder, stdio: 'inherit' });
  if (status !== 0) {
    console.error(`${name}: must end with code 0, got ${status}`);
    process.exit(1);
  }
  console.log(`${name}: ${((performance.now() - began) / 1000).toFixed(1)} s\n`);
}
