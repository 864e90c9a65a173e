import { describe, expect, test } from "bun:test";
import { errorCode } from "../../lib/caught.ts";
import { canLookUpApart, lookupApart } from "../../lib/libc_resolve.ts";

describe.if(canLookUpApart)("lookupApart", () => {
  test("finds the addresses of a name, each once", async () => {
    const found = await lookupApart("localhost");
    expect(found.some((text) => text === "127.0.0.1" || text === "0:0:0:0:0:0:0:1")).toBe(true);
    expect(new Set(found).size).toBe(found.length);
  });

  test("a literal stands for itself", async () => {
    expect(await lookupApart("2001:db8::1")).toEqual(["2001:db8::1"]);
  });

  test("says by code that it found nothing", async () => {
    const error = await lookupApart("no such host").catch((reason: unknown) => reason);
    expect(["ENOTFOUND", "EAI_AGAIN"]).toContain(errorCode(error));
  });

  test("many at once, and collections of garbage meanwhile", async () => {
    const asked = Array.from({ length: 200 }, () => lookupApart("localhost"));
    Bun.gc(true);
    const found = await Promise.all(asked);
    expect(new Set(found.map(String)).size).toBe(1);
  });
});
