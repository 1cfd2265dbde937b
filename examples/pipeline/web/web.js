// Answers GET / with what `aggregate` has of the readings: JSON, or a page for browsers.
// Each request has an instance of its own, so nothing is kept here.

import { request } from "ron:kernel/bus@1.0.0";
import { write } from "ron:kernel/log@1.0.0";

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer({ method, url, headers }) {
  if (new URL(url).pathname !== "/") return text(404, "there is only /\n");
  if (method !== "GET" && method !== "HEAD") return text(405, "there is only GET\n");
  let summary;
  try {
    summary = new TextDecoder().decode(request("readings.summary", new Uint8Array(), 1000));
  } catch (error) {
    // What the bus says is a variant: "timeout", "no-responder", or "failed" with a text.
    const { tag = String(error), val } = error.payload ?? {};
    const why = typeof val === "string" ? `${tag}: ${val}` : tag;
    write("warn", `there is no summary: ${why}`, []);
    return text(503, `there is no summary now: ${why}\n`);
  }
  if (headers.get("accept")?.includes("text/html")) return html(page(JSON.parse(summary)));
  return new Response(`${summary}\n`, { headers: { "content-type": "application/json" } });
}

const text = (status, body) =>
  new Response(body, { status, headers: { "content-type": "text/plain; charset=utf-8" } });

const html = (body) => new Response(body, { headers: { "content-type": "text/html; charset=utf-8" } });

function page(summary) {
  const rows = Object.entries(summary).map(([sensor, { place, count, mean, lowest, highest }]) =>
    row("td", [sensor, place, count, ...[mean, lowest, highest].map((celsius) => celsius.toFixed(1))]),
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>Readings</title>
<style>body { font-family: sans-serif; margin: 2rem } th, td { text-align: left; padding-right: 1.5rem }</style>
<h1>Readings</h1>
<table>
${row("th", ["sensor", "place", "count", "mean", "lowest", "highest"])}
${rows.join("\n")}
</table>
<p>In degrees Celsius.</p>
`;
}

const row = (cell, values) =>
  `<tr>${values.map((value) => `<${cell}>${escape(String(value))}</${cell}>`).join("")}</tr>`;

const escape = (value) => value.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
