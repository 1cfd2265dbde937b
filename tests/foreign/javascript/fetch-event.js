// A service as the fetch event of browsers has it: componentize-js makes a component of it.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const url = new URL(request.url);
  if (url.pathname === "/echo") {
    return new Response(await request.text(), { headers: { "content-type": "text/plain" } });
  }
  return new Response(`hello from fetch, for ${request.method} ${url.pathname}\n`);
}
