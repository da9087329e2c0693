/**
 * Loaded into a `moebius` process before everything else (`node --import`): kills it with SIGKILL just before one of
 * the calls that change a folder. MOEBIUS_TEST_KILL is JSON: `folder`, and `log` (a file that takes the name of every such
 * call) or `at` (the name of the call; `half …` does half of a write first).
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';

const { folder, at, log } = JSON.parse(process.env.MOEBIUS_TEST_KILL ?? '{}');
const real = { ...fs };
const opened = new Map();

/** Numbers and ids differ from run to run. */
function nameOf(file) {
  return path
    .relative(path.dirname(folder), String(file))
    .replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID')
    .replaceAll(/saving-\d+-[^/]*/g, 'saving')
    .replaceAll(/^[^/]*/g, 'run');
}

function isWatched(file) {
  return typeof file === 'string' && (file === folder || file.startsWith(folder + path.sep));
}

function before(call, file, half) {
  const name = `${call} ${nameOf(file)}`;
  if (log !== undefined)
    real.appendFileSync(log, half === undefined ? `${name}\n` : `half ${name}\n${name}\n`);
  if (at === `half ${name}` && half !== undefined) half();
  else if (at !== name) return;
  process.kill(process.pid, 'SIGKILL');
}

for (const call of ['mkdirSync', 'mkdtempSync', 'rmSync', 'rmdirSync', 'linkSync', 'renameSync', 'cpSync']) {
  fs[call] = (...parameters) => {
    const place = parameters.findLast(isWatched);
    if (place !== undefined) before(call, place);
    return real[call](...parameters);
  };
}
fs.openSync = (file, flags, ...rest) => {
  if (isWatched(file) && flags !== 'r') before('openSync', file);
  const handle = real.openSync(file, flags, ...rest);
  if (isWatched(file)) opened.set(handle, file);
  return handle;
};
for (const call of ['writeSync', 'fsyncSync', 'closeSync', 'writeFileSync']) {
  fs[call] = (handle, ...rest) => {
    const file = typeof handle === 'number' ? opened.get(handle) : handle;
    const [bytes, offset, length, position] = rest;
    const half =
      call === 'writeSync' && length > 1
        ? () => real.writeSync(handle, bytes, offset, Math.ceil(length / 2), position)
        : undefined;
    if (file !== undefined && isWatched(file)) before(call, file, half);
    if (call === 'closeSync') opened.delete(handle);
    return real[call](handle, ...rest);
  };
}
const promises = { ...fs.promises };
for (const call of ['mkdir', 'rm', 'rename', 'writeFile', 'appendFile', 'truncate']) {
  fs.promises[call] = (...parameters) => {
    const place = parameters.slice(0, 2).findLast(isWatched);
    const text = parameters[1];
    const half =
      call === 'appendFile' || call === 'writeFile'
        ? () => real[`${call}Sync`](parameters[0], String(text).slice(0, String(text).length / 2))
        : undefined;
    if (place !== undefined) before(call, place, half);
    return promises[call](...parameters);
  };
}
syncBuiltinESMExports();
