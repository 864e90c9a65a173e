/** What can be read from a caught value, which may be anything. */

/** The `code` of a system error, such as `ENOENT`; empty for any other value. */
export function errorCode(error: unknown): string {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : "";
}

/** The positive errno of a system error; 0 for any other value. */
export function errnoOf(error: unknown): number {
  const errno: unknown = error instanceof Error && "errno" in error ? error.errno : undefined;
  return typeof errno === "number" ? Math.abs(errno) : 0;
}

/** The message of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
