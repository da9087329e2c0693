/** An element of a parsed document. */
export interface Element {
  readonly name: string;
  readonly attributes: { readonly [name: string]: string };
  readonly children: Element[];
  text: string;
}

const entities: { readonly [name: string]: string } = { amp: '&', lt: '<', gt: '>', quot: '"' };

function unescape(text: string): string {
  if (/[<>]/.test(text)) throw new Error(`markup in text: ${text}`);
  return text.replaceAll(/&([a-z]*;?)/g, (_, name: string) => {
    const found = name.endsWith(';') ? entities[name.slice(0, -1)] : undefined;
    if (found === undefined) throw new Error(`unknown entity &${name}`);
    return found;
  });
}

/** Parses the part of XML that our pictures use, and refuses everything else. */
export function parseXml(source: string): Element {
  const root: Element = { name: '', attributes: {}, children: [], text: '' };
  const open = [root];
  for (const [, markup, text] of source.matchAll(/(<[^>]*>)|([^<]+)/g)) {
    const parent = open.at(-1);
    if (parent === undefined) throw new Error('more than closed');
    if (text !== undefined) parent.text += unescape(text);
    else if (markup?.startsWith('</') === true) {
      if (markup !== `</${parent.name}>`) throw new Error(`${markup} closes ${parent.name}`);
      open.pop();
    } else {
      const [, name = '', rest = '', end = ''] =
        /^<([a-z]+)((?: [a-zA-Z0-9-]+="[^"]*")*)(\/?)>$/.exec(markup ?? '') ?? [];
      if (name === '') throw new Error(`not a tag: ${markup}`);
      const attributes = Object.fromEntries(
        [...rest.matchAll(/ ([a-zA-Z0-9-]+)="([^"]*)"/g)].map(([, key = '', value = '']) => [
          key,
          unescape(value),
        ]),
      );
      const element: Element = { name, attributes, children: [], text: '' };
      parent.children.push(element);
      if (end === '') open.push(element);
    }
  }
  const [only, ...others] = root.children;
  if (open.length !== 1 || only === undefined || others.length > 0)
    throw new Error('must be one closed element');
  return only;
}

/** Every element of a document, itself included. */
export function elementsOf(element: Element): Element[] {
  return [element, ...element.children.flatMap(elementsOf)];
}
