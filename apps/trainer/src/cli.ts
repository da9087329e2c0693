#!/usr/bin/env node
/** @file The executable `moebius`: the only file that touches the process. */
import { readFileSync } from 'node:fs';

import { runProgram } from './program.ts';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

// `moebius … | head` closes our stdout: that is no error. A run that is going on hears of it and saves itself.
let isHeard = false;
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  isHeard ||= process.emit('SIGPIPE', 'SIGPIPE');
  if (!isHeard) process.exit(error.code === 'EPIPE' ? 0 : 1);
});
process.stderr.on('error', () => undefined);

process.exitCode = await runProgram(
  process.argv.slice(2),
  {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    signals: process,
    commandLine: ['moebius', ...process.argv.slice(2)].join(' '),
    workingFolder: process.cwd(),
    nowMs: () => performance.now(),
    wallTimeMs: () => Date.now(),
    residentBytes: () => process.memoryUsage.rss(),
  },
  manifest.version,
);
