/**
 * @file The pinned recipe of the native engine: which TensorFlow, which wheel, which of its members.
 *
 * Everything that decides what the finished engine is made of is here as data. Change anything and raise
 * {@link recipeVersion}: the caches are keyed by it, so that an old and a new engine never mix.
 */

/** Raised whenever the steps, the pins or the compile flags change. */
export const recipeVersion = 1;

/** TensorFlow.js packages this recipe was made for. */
export const tfjsVersion = '4.22.0';

/** A wheel on the Python package index, pinned. */
export interface WheelPin {
  /** File name; also its name in the cache. */
  readonly file: string;
  /** sha256 of the file, lower-case hex. */
  readonly sha256: string;
  /** Size of the file in bytes. */
  readonly bytes: number;
  /** What `pip download` is asked for, besides `--no-deps --only-binary=:all:`. */
  readonly pipArguments: readonly string[];
}

/** Where the TensorFlow library comes from on one platform. */
export interface LibraryRecipe {
  /** TensorFlow's version. */
  readonly tensorflow: string;
  /** The wheel that holds it. */
  readonly wheel: WheelPin;
  /** Wheel member to path inside the library folder. Both shared libraries keep their `SONAME` file names. */
  readonly libraries: Readonly<Record<string, string>>;
  /** Headers: members that start with one of these are extracted, with `headerRoot` cut off, under `include/`. */
  readonly headerPrefixes: readonly string[];
  /** Cut off from header members. */
  readonly headerRoot: string;
}

const headerRoot = 'tensorflow/include/';
const headerFolders = [
  'Eigen/',
  'absl/',
  'google/',
  'ml_dtypes/',
  'tensorflow/c/',
  'tensorflow/core/',
  'tensorflow/tsl/',
  'third_party/',
  'tsl/',
  'unsupported/',
  'xla/tsl/',
];

/** Recipes by `${process.platform}-${process.arch}`. A platform that is not here has no native engine yet. */
export const libraryRecipes: Readonly<Record<string, LibraryRecipe>> = {
  'linux-x64': {
    tensorflow: '2.21.0',
    wheel: {
      file: 'tensorflow_cpu-2.21.0-cp311-cp311-manylinux_2_27_x86_64.whl',
      sha256: '2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c',
      bytes: 273_829_956,
      pipArguments: [
        '--python-version',
        '3.11',
        '--platform',
        'manylinux_2_27_x86_64',
        'tensorflow-cpu==2.21.0',
      ],
    },
    libraries: {
      'tensorflow/libtensorflow_cc.so.2': 'libtensorflow_cc.so.2',
      'tensorflow/libtensorflow_framework.so.2': 'libtensorflow_framework.so.2',
    },
    headerPrefixes: headerFolders.map((folder) => headerRoot + folder),
    headerRoot,
  },
};

/** Flags of every C++ file. `-march=native`: the cache is per machine type, see `machine.ts`. */
export const compileFlags: readonly string[] = [
  '-std=c++17',
  '-O3',
  '-march=native',
  '-fPIC',
  '-w',
  '-DNAPI_VERSION=8',
  '-DEIGEN_MAX_ALIGN_BYTES=64',
  '-D_GLIBCXX_USE_CXX11_ABI=1',
  '-DNDEBUG',
];
