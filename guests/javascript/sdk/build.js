#!/usr/bin/env node
// Builds a component from the JavaScript or TypeScript of a service.
//
//   node sdk/build.js src/service.js -o service.wasm
//
// esbuild bundles the service, the SDK and what else it imports into one module, and
// componentize-qjs evaluates that and makes of the engine as it then stands a component.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { BUNDLE, MAP, SourceMap, translate } from "./lib/stack.js";

const USAGE = `usage: node sdk/build.js FILE -o COMPONENT [--world NAME]... [--engine NAME] [--tools DIR]

  FILE           the module that has the service as its default export
  -o, --output   where the component goes
  --world        service, stateful-service or bulk-service; repeatable [default: service]
  --engine       quickjs or starlingmonkey [default: quickjs]
  --tools        the directory in whose node_modules the tools are [default: the project's]`;

const WORLDS = ["service", "stateful-service", "bulk-service"];
const ENGINES = {
  quickjs: { tool: "componentize-qjs", build: quickjs },
  starlingmonkey: { tool: "@bytecodealliance/componentize-js", build: starlingmonkey },
};

/// Beside the contract: the end of the instance, and what randomness is made from. The
/// oldest version is asked for, which each host has that has any of 0.2.
const WASI = {
  cli: "package wasi:cli@0.2.0;\n\ninterface exit {\n  exit: func(status: result);\n}\n",
  random: "package wasi:random@0.2.0;\n\ninterface random {\n  get-random-bytes: func(len: u64) -> list<u8>;\n}\n",
};

const sdk = dirname(fileURLToPath(import.meta.url));

class Mistake extends Error {}

async function main() {
  const options = read();
  const engine = ENGINES[options.engine];
  const esbuild = await tool("esbuild", options.tools);
  const componentizer = await tool(engine.tool, options.tools);
  const { source, map } = await bundle(esbuild, options);
  const wit = contract(options.worlds);
  try {
    const component = await engine.build(componentizer, source, wit);
    mkdirSync(dirname(resolve(options.output)), { recursive: true });
    writeFileSync(options.output, component);
  } catch (error) {
    throw new Mistake(explain(error, map));
  } finally {
    rmSync(wit, { recursive: true, force: true });
  }
}

function read() {
  let parsed;
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: {
        output: { type: "string", short: "o" },
        world: { type: "string", multiple: true },
        engine: { type: "string", default: "quickjs" },
        tools: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new Mistake(`${error.message}\n\n${USAGE}`);
  }
  const { values, positionals } = parsed;
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  if (positionals.length !== 1 || !values.output) throw new Mistake(USAGE);
  const worlds = values.world ?? ["service"];
  for (const world of worlds) {
    if (!WORLDS.includes(world)) throw new Mistake(`there is no world ${world}: there are ${WORLDS.join(", ")}`);
  }
  if (!(values.engine in ENGINES)) {
    throw new Mistake(`there is no engine ${values.engine}: there are ${Object.keys(ENGINES).join(", ")}`);
  }
  return { file: positionals[0], output: values.output, worlds, engine: values.engine, tools: values.tools };
}

/// A package of the project's own. Not of the SDK's, which is a plain directory that is
/// copied about, and may lie elsewhere than the tools.
async function tool(name, directory) {
  const start = directory === undefined ? process.cwd() : resolve(directory);
  for (let at = start; ; at = dirname(at)) {
    const home = join(at, "node_modules", name);
    if (existsSync(home)) return load(home);
    if (dirname(at) === at) break;
  }
  throw new Mistake(`${name} is not installed in ${join(start, "node_modules")}: run npm ci, or npm install -DE ${name}`);
}

async function load(home) {
  const { exports, module, main } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
  let entry = exports?.["."] ?? exports;
  while (typeof entry === "object") entry = entry.import ?? entry.node ?? entry.default;
  const loaded = await import(pathToFileURL(join(home, entry ?? module ?? main ?? "index.js")));
  return { ...loaded.default, ...loaded };
}

/// The service as one module, which exports what the contract wants, with its source map
/// at its end, and that source map.
async function bundle(esbuild, { file, worlds, engine }) {
  if (!existsSync(file)) throw new Mistake(`${file}: there is no such file`);
  const own = (name) => JSON.stringify(join(sdk, "lib", name));
  const quickjs = engine === "quickjs";
  const entry = `
    import ${own("globals.js")};
    import service from ${JSON.stringify(`./${local(file)}`)};
    import { component } from ${own("component.js")};
    export const { lifecycle, handover, bulk } = component(service, ${JSON.stringify(worlds)});
  `;
  const result = await esbuild
    .build({
      stdin: { contents: entry, resolveDir: process.cwd(), sourcefile: join(sdk, "entry.js") },
      bundle: true,
      format: "esm",
      platform: "neutral",
      mainFields: ["module", "main"],
      conditions: ["module"],
      target: "es2023",
      // What is awaited in QuickJS, the SDK's own promises have to know of.
      supported: quickjs
        ? { "async-await": false, "async-generator": false, "for-await": false, "top-level-await": false }
        : {},
      define: { "process.env.NODE_ENV": '"production"' },
      alias: { ron: join(sdk, "index.js"), "ron/testing": join(sdk, "testing.js") },
      external: ["ron:*", "wasi:*"],
      sourcemap: "external",
      sourcesContent: false,
      outfile: resolve(BUNDLE),
      write: false,
      logLevel: "silent",
    })
    .catch(async (error) => {
      if (!error.errors) throw error;
      const messages = await esbuild.formatMessages(error.errors, { kind: "error", color: process.stderr.isTTY });
      throw new Mistake(messages.join("").trimEnd(), { cause: "esbuild" });
    });
  for (const message of await esbuild.formatMessages(result.warnings, { kind: "warning", color: process.stderr.isTTY })) {
    process.stderr.write(message);
  }
  const text = (name) => result.outputFiles.find(({ path }) => path.endsWith(name)).text;
  const { sources, mappings } = JSON.parse(text(".map"));
  const map = { sources: sources.map(author), mappings };
  return { source: `${text(BUNDLE)}${remember(map)}`, map: new SourceMap(map) };
}

/// After all that the map is of, so that no line moves.
function remember(map) {
  return `globalThis[Symbol.for(${JSON.stringify(MAP.description)})] = ${JSON.stringify(map)};\n`;
}

/// The path of one of the author's files, from the directory of the build; `null` for
/// the SDK's.
function author(source) {
  const path = resolve(source);
  return path.startsWith(sdk + sep) ? null : local(path);
}

const local = (path) => relative(process.cwd(), path).replaceAll("\\", "/");

/// A directory with the world of the component: those that were asked for, together.
function contract(worlds) {
  const wit = mkdtempSync(join(tmpdir(), "ron-wit-"));
  const put = (name, text) => {
    mkdirSync(dirname(join(wit, name)), { recursive: true });
    writeFileSync(join(wit, name), text);
  };
  const includes = worlds.map((world) => `  include ron:kernel/${world}@1.0.0;\n`).join("");
  const imports = "  import wasi:cli/exit@0.2.0;\n  import wasi:random/random@0.2.0;\n";
  put("world.wit", `package ron:guest;\n\nworld component {\n${includes}${imports}}\n`);
  for (const [name, text] of Object.entries(WASI)) put(`deps/wasi-${name}/${name}.wit`, text);
  for (const name of readdirSync(join(sdk, "wit")).filter((name) => name.endsWith(".wit"))) {
    put(`deps/ron-kernel/${name}`, readFileSync(join(sdk, "wit", name), "utf8"));
  }
  return wit;
}

async function quickjs({ componentize }, source, wit) {
  // A file of that name, so that it has it in stacks.
  const jsPath = join(wit, BUNDLE);
  writeFileSync(jsPath, source);
  const options = { witPath: wit, world: "component", jsSource: source, jsPath, moduleRoot: wit, sync: true };
  const { component } = await componentize(options);
  return component;
}

async function starlingmonkey({ componentize }, source, wit) {
  const { component } = await componentize(source, {
    witPath: wit,
    worldName: "component",
    sourceName: BUNDLE,
    // An HTTP service is made of other exports; `fetch` stays.
    disableFeatures: ["fetch-event"],
  });
  return component;
}

/// What went wrong while the service was loaded, at the places of the author's files.
function explain(error, map) {
  const told = translate(String(error?.message ?? error), map);
  const [, , reason] = /^(.*Failed to (?:finish|evaluate) JavaScript module(?: evaluation)?: )([^]*)$/.exec(told) ?? [];
  return reason === undefined ? told.trim() : `the service could not be loaded: ${reason.trim()}`;
}

main().catch((error) => {
  if (!(error instanceof Mistake)) throw error;
  console.error(error.cause === "esbuild" ? error.message : `error: ${error.message}`);
  process.exit(1);
});
