#!/usr/bin/env node
/** @file The executable `moebius-tensor`. */
import { runCli } from './cli/run-cli.ts';

process.exitCode = await runCli(process.argv.slice(2), {
  out: (text) => process.stdout.write(text),
  error: (text) => process.stderr.write(text),
  environment: process.env,
  workingFolder: process.cwd(),
});
