/**
 * Bundles the page: `page/main.tsx`, its style sheets, and each `page/*_worker.ts` on its own, into static files whose names carry
 * the hash of what they hold. Runs alone too: `deno run -A services/ui/build.ts [OUT]`. Unchanged sources are skipped.
 *
 *     OUT/index.html             with __BASE__ where the server writes the base path
 *     OUT/assets/NAME-HASH.js    may be kept by browsers for ever
 *     OUT/assets.json            what there is: path -> bytes
 *
 * The page finds a worker by `<meta name="asset:layout_worker" content="assets/layout_worker-HASH.js">`.
 * @module
 */
import { createHash } from "node:crypto";
// These imports bring the packages; their files are found beside them.
import inter from "@fontsource-variable/inter/package.json" with { type: "json" };
import jetbrainsMono from "@fontsource-variable/jetbrains-mono/package.json" with { type: "json" };

const ROOT = new URL("../../", import.meta.url).pathname;
const PAGE = new URL("./page/", import.meta.url).pathname;

/** Where the files go. */
export interface BuildPageOptions {
  /** Folder; it is made anew. */
  readonly out: string;
}

/** Builds the page if its sources are others than those of the files that are there. @throws where they do not compile */
export async function buildPage({ out }: BuildPageOptions): Promise<void> {
  const entries = [...Deno.readDirSync(PAGE)].map(({ name }) => name)
    .filter((name) => name === "main.tsx" || /_worker\.tsx?$/.test(name)).sort();
  const stamp = sourcesHash();
  if (await Deno.readTextFile(`${out}/stamp`).catch(() => "") === stamp) return;
  const next = `${out}.new`;
  await Deno.remove(next, { recursive: true }).catch(() => {});
  await Deno.mkdir(`${next}/assets`, { recursive: true });
  const named: Record<string, string> = {};
  for (const entry of entries) Object.assign(named, await bundleEntry(entry, `${next}/assets`));
  Object.assign(named, await placeFonts(`${next}/assets`));
  const icon = await Deno.readFile(`${PAGE}icon.svg`).catch(() => undefined);
  if (icon !== undefined) named["icon.svg"] = await place(`${next}/assets`, "icon.svg", icon);
  await Deno.writeTextFile(`${next}/index.html`, indexHtml(named));
  await Deno.writeTextFile(`${next}/stamp`, stamp);
  await Deno.remove(out, { recursive: true }).catch(() => {});
  await Deno.rename(next, out);
}

/** Bundles one entry. Returns what it was written as: "main.js" -> "assets/main-3f9a.js". */
async function bundleEntry(entry: string, assets: string): Promise<Record<string, string>> {
  const folder = await Deno.makeTempDir({ prefix: "weir-page-" });
  try {
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "bundle",
        "--quiet",
        "--platform=browser",
        "--minify",
        "--config",
        `${ROOT}deno.json`,
        "--outdir",
        folder,
        `${PAGE}${entry}`,
      ],
      cwd: ROOT,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      // React's other half, with its warnings, is for development.
      env: { NODE_ENV: "production" },
    }).output();
    if (!success) {
      throw new Error(`Cannot bundle page/${entry}: ${new TextDecoder().decode(stderr).trim()}`);
    }
    const named: Record<string, string> = {};
    for (const { name, isFile } of Deno.readDirSync(folder)) {
      if (isFile) named[name] = await place(assets, name, await Deno.readFile(`${folder}/${name}`));
    }
    return named;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The page's type faces, of the letters that English needs: their weights vary within one file. */
const FONTS = [
  { family: "Inter Variable", file: `${inter.name}/files/inter-latin-wght-normal.woff2` },
  {
    family: "JetBrains Mono Variable",
    file: `${jetbrainsMono.name}/files/jetbrains-mono-latin-wght-normal.woff2`,
  },
] as const;

/** Places the type faces and a style sheet that names them. */
async function placeFonts(assets: string): Promise<Record<string, string>> {
  const named: Record<string, string> = {};
  const faces: string[] = [];
  for (const { family, file } of FONTS) {
    const name = file.slice(file.lastIndexOf("/") + 1);
    const path = named[name] = await place(
      assets,
      name,
      await Deno.readFile(new URL(import.meta.resolve(file))),
    );
    faces.push(
      `@font-face{font-family:"${family}";font-weight:100 900;font-display:swap;` +
        `src:url("./${path.slice("assets/".length)}") format("woff2")}`,
    );
  }
  named["fonts.css"] = await place(assets, "fonts.css", new TextEncoder().encode(`${faces.join("\n")}\n`));
  return named;
}

/** Writes a file under a name with its hash. Returns the path from the page's base. */
async function place(assets: string, name: string, bytes: Uint8Array): Promise<string> {
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 16);
  const dot = name.lastIndexOf(".");
  const hashed = `${name.slice(0, dot)}-${hash}${name.slice(dot)}`;
  await Deno.writeFile(`${assets}/${hashed}`, bytes, { mode: 0o644 });
  return `assets/${hashed}`;
}

function indexHtml(named: Readonly<Record<string, string>>): string {
  const head = Object.entries(named).flatMap(([name, path]) => {
    if (name.endsWith(".css")) return [`<link rel="stylesheet" href="${path}">`];
    if (name.endsWith(".woff2")) {
      return [`<link rel="preload" as="font" type="font/woff2" crossorigin href="${path}">`];
    }
    if (name === "icon.svg") return [`<link rel="icon" type="image/svg+xml" href="${path}">`];
    if (name === "main.js") return [`<script type="module" src="${path}"></script>`];
    return [`<meta name="asset:${name.replace(/\.js$/, "")}" content="${path}">`];
  });
  return [
    "<!doctype html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    '<base href="__BASE__">',
    "<title>Weir</title>",
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    ...head,
    "</head>",
    '<body><div id="root"></div><noscript>This page needs JavaScript.</noscript></body>',
    "</html>",
    "",
  ].join("\n");
}

/** Hash of everything that the files are made from. */
function sourcesHash(): string {
  const hash = createHash("sha256").update(Deno.version.deno);
  const files = [
    new URL(import.meta.url).pathname,
    `${PAGE}../api.ts`,
    `${PAGE}../deno.json`,
    `${ROOT}deno.json`,
    `${ROOT}deno.lock`,
  ];
  for (const { name } of Deno.readDirSync(`${PAGE}../api`)) files.push(`${PAGE}../api/${name}`);
  const visit = (folder: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(folder)) {
      if (isDirectory) visit(`${folder}${name}/`);
      else if (!/_test\.tsx?$/.test(name)) files.push(`${folder}${name}`);
    }
  };
  visit(PAGE);
  for (const file of files.sort()) {
    hash.update(`${file.slice(ROOT.length)}\n`).update(Deno.readFileSync(file));
  }
  return hash.digest("hex");
}

if (import.meta.main) await buildPage({ out: Deno.args[0] ?? `${ROOT}.build/ui` });
