/** Runs every benchmark in smoke size, which checks that it finishes and claims nothing. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

const folder = new URL('.', import.meta.url);
const benchmarks = readdirSync(new URL('src/', folder))
  .filter((name) => name.endsWith('.ts'))
  .filter((name) =>
    /^const .*benchmarkArguments\(|\['smoke'\]|smoke: \{/mu.test(
      readFileSync(new URL(`src/${name}`, folder), 'utf8'),
    ),
  )
  .filter((name) => name !== 'arguments.ts')
  .sort();
for (const name of benchmarks) {
  const began = performance.now();
  const flags = ['--import', 'tsx', '--conditions=@moebius/source', `src/${name}`, '--smoke'];
  const { status } = spawnSync(process.execPath, flags, { cwd: folder, stdio: 'inherit' });
  if (status !== 0) {
    console.error(`${name}: must end with code 0, got ${status}`);
    process.exit(1);
  }
  console.log(`${name}: ${((performance.now() - began) / 1000).toFixed(1)} s\n`);
}
