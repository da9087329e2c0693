/** @file Makes the addon: compiles the binding and our kernels side by side, links, loads it once in a child, publishes. */
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { type Compiler, findCompiler } from './compiler.ts';
import { messageOf, setupError } from './errors.ts';
import { type CacheLayout, addonFile, loaderFile } from './layout.ts';
import { remedyFor } from './make-library.ts';
import { type RunResult, type SetupPorts } from './ports.ts';
import { createStaging, publishFolder } from './publish.ts';
import { type LibraryRecipe, compileFlags } from './recipe.ts';
import { type AddonSources, hashFiles } from './sources.ts';
import { type StampedFile, hashFile } from './stamp.ts';

const compileTimeoutMs = 15 * 60_000;
const loadTimeoutMs = 3 * 60_000;
const compileJobs = 2;
const keptAddons = 8;

/** What was made. */
export interface AddonReport {
  /** Whether our kernels are in it. */
  readonly fused: boolean;
  /** Why they are not; empty otherwise. */
  readonly fusedProblem: string;
  readonly compiler: string;
}

interface Build {
  readonly layout: CacheLayout;
  readonly sources: AddonSources;
  readonly compiler: Compiler;
  readonly objects: string;
  readonly ports: SetupPorts;
}

/**
 * Makes and publishes `layout.addon`. Call it under the lock, with the library in place.
 *
 * @throws `engine` with stage `compiler`, `compile` or `load`; nothing is published then
 */
export async function makeAddon(
  layout: CacheLayout,
  recipe: LibraryRecipe,
  sources: AddonSources,
  ports: SetupPorts,
): Promise<AddonReport> {
  const compiler = await findCompiler(ports);
  const staging = await createStaging(layout.root, 'addon');
  const objects = await createStaging(layout.root, 'objects');
  try {
    const build: Build = { layout, sources, compiler, objects, ports };
    const count = sources.binding.length + sources.kernels.length;
    ports.report(`compiling ${count} C++ files with ${compiler.version}`);
    const report = await compileAndLink(build, recipe, join(staging, addonFile));
    await compileLoader(build, join(staging, loaderFile));
    if (hashFiles(sources.hashed) !== sources.hash) {
      throw setupError(
        'compile',
        'C++ sources: must stay as they are while they compile, got an edit (run the set-up again)',
      );
    }
    await publishAddon(layout, recipe, staging, report, ports);
    await pruneAddons(layout);
    return report;
  } catch (error) {
    if ((error as { details?: { stage?: string } }).details?.stage !== undefined) throw error;
    throw setupError(
      'compile',
      `addon: must be written to ${layout.addons}, got ${messageOf(error)} (${remedyFor(error, 'run the set-up again')})`,
      error,
    );
  } finally {
    await rm(staging, { recursive: true, force: true });
    await rm(objects, { recursive: true, force: true });
  }
}

async function compileAndLink(build: Build, recipe: LibraryRecipe, target: string): Promise<AddonReport> {
  const { sources, compiler, ports } = build;
  const fusedProblem = await tryWithKernels(build, recipe, target);
  if (fusedProblem === '') return { fused: true, fusedProblem, compiler: compiler.version };
  if (sources.kernels.length > 0) ports.report(`building without fused kernels: ${fusedProblem}`);
  await rm(target, { force: true });
  await link(build, sources.binding, target);
  const problem = await smokeLoad(target, recipe, ports);
  if (problem !== '') {
    throw setupError(
      'load',
      `addon: must load in a child process, got ${problem} (run the set-up with --verbose, or use engine 'wasm')`,
    );
  }
  return { fused: false, fusedProblem, compiler: compiler.version };
}

/** Compiles everything and links it with the kernels. Returns why that did not work, or an empty string. */
async function tryWithKernels(build: Build, recipe: LibraryRecipe, target: string): Promise<string> {
  const { sources, compiler, ports } = build;
  const kernels = compiler.foreignLibrary ? [] : sources.kernels;
  const files = [...kernels, ...sources.binding];
  const results = await compileAll(build, files);
  const broken = files.filter((_, index) => results[index]?.status !== 0);
  const brokenBinding = broken.find((file) => sources.binding.includes(file));
  if (brokenBinding !== undefined) throw compileError(brokenBinding, results[files.indexOf(brokenBinding)]);
  if (sources.kernels.length === 0) return 'this package has no native/*.cc';
  if (compiler.foreignLibrary) {
    return `${compiler.version} brings a C++ library that is not TensorFlow's (install g++ and run setup --force)`;
  }
  if (broken[0] !== undefined) return compileError(broken[0], results[files.indexOf(broken[0])]).message;
  return link(build, files, target).then(
    () => smokeLoad(target, recipe, ports),
    (error: unknown) => messageOf(error),
  );
}

async function compileAll(build: Build, files: readonly string[]): Promise<RunResult[]> {
  const results: RunResult[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < files.length; index = next++) {
      const file = files[index] ?? '';
      results[index] = await build.ports.run(
        build.compiler.command,
        [
          ...build.compiler.prefix,
          ...compileFlags,
          ...includeFlags(build),
          '-c',
          file,
          '-o',
          objectOf(build, file),
        ],
        { timeoutMs: compileTimeoutMs },
      );
    }
  };
  await Promise.all(Array.from({ length: compileJobs }, worker));
  return results;
}

function includeFlags(build: Build): string[] {
  return [...build.sources.includes, join(build.layout.library, 'include')].map((folder) => `-I${folder}`);
}

function objectOf(build: Build, file: string): string {
  return join(build.objects, `${basename(file, '.cc')}.o`);
}

async function link(build: Build, files: readonly string[], target: string): Promise<void> {
  const { layout, compiler } = build;
  const result = await build.ports.run(
    compiler.command,
    [
      ...compiler.prefix,
      '-shared',
      ...files.map((file) => objectOf(build, file)),
      '-o',
      target,
      join(layout.library, 'libtensorflow_cc.so.2'),
      join(layout.library, 'libtensorflow_framework.so.2'),
      `-Wl,-rpath,$ORIGIN/../../libraries/${basename(layout.library)}`,
    ],
    { timeoutMs: compileTimeoutMs },
  );
  if (result.status !== 0) throw compileError(target, result);
}

async function compileLoader(build: Build, target: string): Promise<void> {
  const { compiler, sources, ports } = build;
  const flags = [...compileFlags, ...includeFlags(build), '-shared'];
  const result = await ports.run(
    compiler.command,
    [...compiler.prefix, ...flags, sources.loader, '-o', target, '-ldl'],
    {
      timeoutMs: compileTimeoutMs,
    },
  );
  if (result.status !== 0) throw compileError(sources.loader, result);
}

function compileError(file: string, result: RunResult | undefined): Error {
  const output = result?.output ?? '';
  const first =
    output.split('\n').find((line) => /error|undefined|No space/i.test(line)) ??
    result?.failure ??
    output.slice(-300);
  return setupError(
    'compile',
    `${basename(file)}: must compile, got "${first.trim()}" (${remedyFor(output, 'see details.output; another compiler may help')})`,
    undefined,
    { output: output.slice(-4_000) },
  );
}

/** Loads the addon in a child process. Returns what is wrong, or an empty string. */
async function smokeLoad(addon: string, recipe: LibraryRecipe, ports: SetupPorts): Promise<string> {
  const script = 'const b = require(process.argv[1]); console.log("TF=" + b.TF_Version)';
  const result = await ports.run(process.execPath, ['-e', script, addon], {
    timeoutMs: loadTimeoutMs,
    environment: { TF_CPP_MIN_LOG_LEVEL: '3', NODE_OPTIONS: '' },
  });
  if (result.status !== 0) {
    const lines = result.output.trim().split('\n');
    return (
      lines.find((line) => /Error|symbol|Check failed/.test(line))?.trim() ??
      lines.at(-1) ??
      result.failure ??
      'no output'
    );
  }
  return result.output.includes(`TF=${recipe.tensorflow}`)
    ? ''
    : `TensorFlow ${result.output.trim()}, not ${recipe.tensorflow}`;
}

async function publishAddon(
  layout: CacheLayout,
  recipe: LibraryRecipe,
  staging: string,
  report: AddonReport,
  ports: SetupPorts,
): Promise<void> {
  const files: Record<string, StampedFile> = {};
  for (const name of [addonFile, loaderFile]) {
    const path = join(staging, name);
    files[name] = { bytes: (await stat(path)).size, sha256: await hashFile(path) };
  }
  const made = {
    ...report,
    tensorflow: recipe.tensorflow,
    library: basename(layout.library),
    node: process.version,
  };
  await publishFolder(staging, layout.addon, { schemaVersion: 1, files, made }, ports);
}

/** Every edit of a kernel makes a new addon: keep the newest few. */
async function pruneAddons(layout: CacheLayout): Promise<void> {
  await mkdir(layout.addons, { recursive: true });
  const names = await readdir(layout.addons);
  const aged = await Promise.all(
    names.map(async (name) => ({
      name,
      mtimeMs: (await stat(join(layout.addons, name)).catch(() => undefined))?.mtimeMs ?? 0,
    })),
  );
  const old = aged.sort((a, b) => b.mtimeMs - a.mtimeMs).slice(keptAddons);
  for (const { name } of old) await rm(join(layout.addons, name), { recursive: true, force: true });
}
