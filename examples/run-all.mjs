/** Runs every example, each in its own process, and stops at the first that fails. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

const folder = new URL('.', import.meta.url);
const examples = readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && /^\d\d-/u.test(entry.name))
  .map((entry) => entry.name)
  .sort();
for (const name of examples) {
  const began = performance.now();
  const { status } = spawnSync(
    process.execPath,
    ['--import', 'tsx', '--conditions=@moebius/source', `${name}/main.ts`],
    { cwd: folder, stdio: 'inherit' },
  );
  if (status !== 0) {
    console.error(`${name}: must end with code 0, got ${status}`);
    process.exit(1);
  }
  console.log(`${name}: ${((performance.now() - began) / 1000).toFixed(1)} s\n`);
}
