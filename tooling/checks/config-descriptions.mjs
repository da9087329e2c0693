/**
 * @file What every field of a run configuration means, read from the comments of its types: the one place where it is
 * said. Reads syntax only, so that it takes milliseconds.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import ts from 'typescript';

/** @typedef {{ readonly node: ts.InterfaceDeclaration | ts.TypeAliasDeclaration, readonly file: string }} Declaration */

const rootFile = 'packages/train/src/trainer/train-config.ts';
const modelFile = 'packages/model/src/config.ts';

/** Where the descriptions are written. */
export const descriptionsFile = 'packages/train/src/trainer/train-config-descriptions.ts';

/**
 * The description of every path, in the order of the types.
 * @param {string} root
 * @returns {Map<string, string>}
 */
export function readConfigDescriptions(root) {
  /** @type {Map<string, string>} */
  const found = new Map();
  const run = findDeclaration(join(root, rootFile), 'TrainConfig');
  const model = findDeclaration(join(root, modelFile), 'ModelConfig');
  if (run === undefined || model === undefined) throw new Error('TrainConfig and ModelConfig must exist');
  describeMembers(run, '', found);
  describeMembers(model, 'model', found);
  return found;
}

/**
 * The file's text, formatted as oxfmt formats it.
 * @param {ReadonlyMap<string, string>} descriptions
 * @returns {string}
 */
export function formatDescriptions(descriptions) {
  const lines = [...descriptions].map(([path, text]) => {
    const key = /^[$A-Za-z_]\w*$/.test(path) ? path : `'${path}'`;
    const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
    const value = quote + text.replaceAll('\\', '\\\\').replaceAll(quote, `\\${quote}`) + quote;
    const line = `  ${key}: ${value},`;
    return line.length <= 110 ? line : `  ${key}:\n    ${value},`;
  });
  return `/**
 * @file What each field of a run configuration means: made from the comments of its types by
 * \`node tooling/make-config-descriptions.mjs\`; change those and run it again.
 */

/** Descriptions by dotted path. */
export const trainConfigDescriptions: { readonly [path: string]: string } = {
${lines.join('\n')}
};
`;
}

/**
 * @param {Declaration} declaration
 * @param {string} path
 * @param {Map<string, string>} found
 * @returns {void}
 */
function describeMembers({ node, file }, path, found) {
  const members = ts.isInterfaceDeclaration(node) ? node.members : typeMembers(node.type);
  for (const member of members) {
    if (!ts.isPropertySignature(member) || member.type === undefined || member.name === undefined) continue;
    const name = ts.isStringLiteral(member.name) ? member.name.text : member.name.getText();
    const place = path === '' ? name : `${path}.${name}`;
    const inner = innerDeclarations(member.type, file);
    const text = commentOf(member) || inner.map(({ node: type }) => commentOf(type)).find(Boolean) || '';
    if (text !== '' && !found.has(place)) found.set(place, text);
    for (const literal of typeLiterals(member.type)) {
      describeLiteral(literal, { place, file }, found);
    }
    for (const declaration of inner) describeMembers(declaration, place, found);
  }
}

/**
 * @param {ts.TypeLiteralNode} literal
 * @param {{ readonly place: string, readonly file: string }} scope
 * @param {Map<string, string>} found
 */
function describeLiteral(literal, { place, file }, found) {
  for (const member of literal.members) {
    if (!ts.isPropertySignature(member) || member.type === undefined) continue;
    const inner = `${place}.${member.name.getText()}`;
    const text = commentOf(member);
    if (text !== '' && !found.has(inner)) found.set(inner, text);
    for (const declaration of innerDeclarations(member.type, file))
      describeMembers(declaration, inner, found);
  }
}

/**
 * Object literals of a type, all branches of a union.
 * @param {ts.TypeNode} type
 * @returns {ts.TypeLiteralNode[]}
 */
function typeLiterals(type) {
  if (ts.isTypeLiteralNode(type)) return [type];
  if (ts.isUnionTypeNode(type)) return type.types.flatMap(typeLiterals);
  return ts.isParenthesizedTypeNode(type) ? typeLiterals(type.type) : [];
}

/**
 * @param {ts.TypeNode} type
 * @returns {readonly ts.TypeElement[]}
 */
function typeMembers(type) {
  return typeLiterals(type).flatMap(({ members }) => [...members]);
}

/**
 * Declarations that a type names: in its file, or imported from a neighbour.
 * @param {ts.TypeNode} type
 * @param {string} file
 * @returns {Declaration[]}
 */
function innerDeclarations(type, file) {
  if (ts.isUnionTypeNode(type)) return type.types.flatMap((branch) => innerDeclarations(branch, file));
  if (ts.isParenthesizedTypeNode(type)) return innerDeclarations(type.type, file);
  if (!ts.isTypeReferenceNode(type) || !ts.isIdentifier(type.typeName)) return [];
  const declaration = findDeclaration(file, type.typeName.text);
  return declaration === undefined ? [] : [declaration];
}

/** @type {Map<string, ts.SourceFile>} */
const parsed = new Map();

/**
 * @param {string} file
 * @param {string} name
 * @returns {Declaration | undefined}
 */
function findDeclaration(file, name) {
  const source = parsed.get(file) ?? parse(file);
  for (const node of source.statements) {
    if ((ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) && node.name.text === name) {
      return { node, file };
    }
  }
  for (const node of source.statements) {
    if (!ts.isImportDeclaration(node) || !ts.isStringLiteral(node.moduleSpecifier)) continue;
    const names = node.importClause?.namedBindings;
    const isNamed =
      names !== undefined &&
      ts.isNamedImports(names) &&
      names.elements.some((element) => element.name.text === name);
    const target = join(dirname(file), node.moduleSpecifier.text);
    if (isNamed && node.moduleSpecifier.text.startsWith('.') && existsSync(target)) {
      return findDeclaration(target, name);
    }
  }
  return undefined;
}

/**
 * @param {string} file
 * @returns {ts.SourceFile}
 */
function parse(file) {
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true);
  parsed.set(file, source);
  return source;
}

/**
 * The comment in one line, without marks of documentation.
 * @param {ts.Node} node
 * @returns {string}
 */
function commentOf(node) {
  const [comment] = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc);
  const text = ts.getTextOfJSDocComment(comment?.comment) ?? '';
  return text
    .replaceAll(/\{@link\s+([^}]+)\}/g, '$1')
    .replaceAll(/\s+/g, ' ')
    .trim();
}
