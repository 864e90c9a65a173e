/**
 * Documents with generated parts: each stands between two comments and is written anew by the program that made it.
 *
 *     <!-- begin NAME: made by COMMAND -->
 *     ...
 *     <!-- end NAME -->
 */

const NAME = /^[a-z0-9][a-z0-9.-]*$/;

/**
 * Puts `content` into the part `name` of a document; a part that it does not have yet is added at its end.
 *
 * @param command what makes the part, for the comment; without options, since two hyphens would end it for some readers
 * @throws {RangeError} when the name holds anything but small letters, digits, points and hyphens
 */
export function replacePart(document: string, name: string, command: string, content: string): string {
  if (!NAME.test(name))
    throw new RangeError(`Cannot name a part "${name}": expected a to z, 0 to 9, ".", "-"`);
  const end = `<!-- end ${name} -->`;
  const begin = `<!-- begin ${name}: made by ${command} -->`;
  const part = `${begin}\n\n${content.trim()}\n\n${end}`;
  const from = beginning(document, name);
  const to = document.indexOf(end);
  if (from < 0 || to < from) return `${document.trimEnd()}\n\n${part}\n`.trimStart();
  return document.slice(0, from) + part + document.slice(to + end.length);
}

/** Where the part's first comment is; -1 when there is none. */
function beginning(document: string, name: string): number {
  const withCommand = document.indexOf(`<!-- begin ${name}: `);
  return withCommand >= 0 ? withCommand : document.indexOf(`<!-- begin ${name} -->`);
}
