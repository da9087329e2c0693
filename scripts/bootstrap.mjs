/**
 * @file From a bare clone to a built repository with a fast engine. Idempotent: a second run takes a second or two.
 *
 *   Node's version → npm ci, when the lockfile changed → build (turbo's cache) → native engine (never fatal)
 *
 * Run it as `npm run bootstrap`; `npm start` and `npm test` begin with it. No dependencies: nothing is installed yet.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { local, npm, root, run, say, stage } from './stages.mjs';

const minimumNode = [20, 19];
const stampPath = join(root, 'node_modules', '.moebius-lockfile');

/** Makes the repository ready. Ends the process with status 1 when it cannot. */
export async function bootstrap() {
  checkNode();
  await stage('packages', installPackages);
  await stage('build', build);
  await stage('engine', setUpEngine);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > minimumNode[0] || (major === minimumNode[0] && minor >= minimumNode[1])) return;
  fail(
    `Node: must be ${minimumNode.join('.')} or newer, got ${process.versions.node} (install a current Node)`,
  );
}

async function installPackages() {
  const key = lockfileKey();
  if (existsSync(stampPath) && readFileSync(stampPath, 'utf8') === key) return 'up to date';
  if (matchesInstalled()) {
    writeFileSync(stampPath, key);
    return 'up to date';
  }
  const { status, output } = await run(npm('ci'));
  if (status !== 0) fail(`packages: npm ci must succeed, got status ${status}\n${output.trim()}`);
  writeFileSync(stampPath, key);
  return 'installed';
}

/** The stamp's content: changes with the lockfile, with Node's major version and with the platform. */
function lockfileKey() {
  const lockfile = readFileSync(join(root, 'package-lock.json'));
  const node = `${process.platform}-${process.arch}-node${process.versions.node.split('.')[0]}`;
  return `${createHash('sha256').update(lockfile).digest('hex')} ${node}\n`;
}

/** Whether npm's own record of node_modules already agrees with the lockfile, say after `npm install`. */
function matchesInstalled() {
  const recordPath = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(recordPath)) return false;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(recordPath, 'utf8')).packages;
  const stale = Object.entries(installed).some(([path, { version }]) => wanted[path]?.version !== version);
  const missing = Object.entries(wanted).some(
    ([path, entry]) =>
      path.includes('node_modules/') && !entry.optional && !entry.peer && !(path in installed),
  );
  return !stale && !missing;
}

async function build() {
  const { status, output } = await run(
    local('turbo', 'run', 'build', '--output-logs=errors-only', '--ui=stream'),
  );
  if (status !== 0) fail(`build: turbo run build must succeed, got status ${status}\n${output.trim()}`);
  const [, cached, total] = /Cached:\s*(\d+) cached, (\d+) total/.exec(output) ?? [];
  return cached === undefined ? 'done' : `${total} packages, ${cached} from cache`;
}

async function setUpEngine() {
  const { status } = await run(
    [process.execPath, join(root, 'packages/tensor/dist/cli.js'), 'setup', '--quiet'],
    { show: true },
  );
  return status === 0 ? 'native engine ready' : 'going on with the wasm engine';
}

function fail(message) {
  say(message);
  process.exit(1);
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await bootstrap();
}
