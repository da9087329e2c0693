/** @file A tiny stand-in for TensorFlow's wheel: two real shared libraries, one header, and C++ sources that use them. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateRawSync } from 'node:zlib';

import { type LibraryRecipe } from '../../src/setup/recipe.ts';

const headerRoot = 'tensorflow/include/';

/** What {@link makeTinyWheel} made. */
export interface TinyWheel {
  readonly wheel: string;
  readonly recipe: LibraryRecipe;
  /** `binding.cc` and `kernel.cc`. */
  readonly sources: string;
}

/** Builds the libraries, the wheel and the sources in an existing folder. Needs g++. */
export function makeTinyWheel(folder: string): TinyWheel {
  const versionLibrary = compileLibrary(
    folder,
    'libtensorflow_cc.so.2',
    'const char* tiny_version() { return "2.21.0"; }',
  );
  const otherLibrary = compileLibrary(
    folder,
    'libtensorflow_framework.so.2',
    'int tiny_framework() { return 7; }',
  );
  const members: Record<string, Buffer> = {
    'tensorflow/libtensorflow_cc.so.2': versionLibrary,
    'tensorflow/libtensorflow_framework.so.2': otherLibrary,
    [`${headerRoot}tensorflow/c/tiny.h`]: Buffer.from('extern "C" const char* tiny_version();\n'),
    [`${headerRoot}external/not_needed.h`]: Buffer.from('#error never extracted\n'),
    'tensorflow/python/not_needed.py': Buffer.from('# never extracted\n'),
  };
  const bytes = zip(members);
  const wheel = join(folder, 'tiny-2.21.0-py3-none-any.whl');
  writeFileSync(wheel, bytes);
  const sources = join(folder, 'sources');
  mkdirSync(sources, { recursive: true });
  writeFileSync(join(sources, 'binding.cc'), bindingSource);
  writeFileSync(join(sources, 'kernel.cc'), 'int tiny_kernel() { return 1; }\n');
  return { wheel, sources, recipe: tinyRecipe(bytes) };
}

const bindingSource = `
#include <node_api.h>
#include "tensorflow/c/tiny.h"
NAPI_MODULE_INIT() {
  napi_value version;
  napi_create_string_utf8(env, tiny_version(), NAPI_AUTO_LENGTH, &version);
  napi_set_named_property(env, exports, "TF_Version", version);
  return exports;
}
`;

function tinyRecipe(wheel: Buffer): LibraryRecipe {
  return {
    tensorflow: '2.21.0',
    wheel: {
      file: 'tiny-2.21.0-py3-none-any.whl',
      sha256: createHash('sha256').update(wheel).digest('hex'),
      bytes: wheel.length,
      pipArguments: ['tiny-package-that-no-index-has==2.21.0'],
    },
    libraries: {
      'tensorflow/libtensorflow_cc.so.2': 'libtensorflow_cc.so.2',
      'tensorflow/libtensorflow_framework.so.2': 'libtensorflow_framework.so.2',
    },
    headerPrefixes: [`${headerRoot}tensorflow/c/`],
    headerRoot,
  };
}

function compileLibrary(folder: string, name: string, body: string): Buffer {
  const source = join(folder, `${name}.cc`);
  writeFileSync(source, `extern "C" { ${body} }\n`);
  execFileSync('g++', ['-shared', '-fPIC', `-Wl,-soname,${name}`, source, '-o', join(folder, name)]);
  return readFileSync(join(folder, name));
}

/** A deflated zip of these members. */
function zip(members: Readonly<Record<string, Buffer>>): Buffer {
  const locals: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, content] of Object.entries(members)) {
    const packed = deflateRawSync(content);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(8, 4);
    common.writeUInt32LE(crc32(content), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), common, Buffer.from(name), packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    directory.push(
      Buffer.concat([Buffer.from('PK\x01\x02\x14\x00', 'latin1'), common, tail, Buffer.from(name)]),
    );
    locals.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(directory.length, 8);
  end.writeUInt16LE(directory.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, central, end]);
}
