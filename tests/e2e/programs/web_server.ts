/**
 * The "real web server" on the internet: serves one file and tells who asked.
 *
 * Use: web_server.ts FILE. Listens on port 80 of every address. `/file` is FILE, `/whoami` the caller's address.
 */

const [path] = process.argv.slice(2);
if (path === undefined) throw new Error("Use: web_server.ts FILE");

Bun.serve({
  hostname: "::",
  port: 80,
  // a download through a lossy tunnel may pause for long
  idleTimeout: 0,
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (pathname === "/file") return new Response(Bun.file(path));
    if (pathname !== "/whoami") return new Response("not found\n", { status: 404 });
    return new Response(server.requestIP(request)?.address.replace(/^::ffff:/, "") ?? "unknown");
  },
});
console.log("listening");
