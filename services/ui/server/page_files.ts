/** The built page's files, read once into memory. @module */
import { ProblemError } from "@weir/common";

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
  woff2: "font/woff2",
};
/** More is no page of ours. */
const FILES_MAX = 256, BYTES_MAX = 64 << 20;

/** One file. */
export interface PageFile {
  readonly type: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** The files by path from the base: "index.html", "assets/main-3f9a.js". */
export class PageFiles {
  readonly #files: ReadonlyMap<string, PageFile>;

  constructor(files: ReadonlyMap<string, PageFile>) {
    this.#files = files;
  }

  /** Reads a directory that `build.ts` made. @throws {ProblemError} PAGE_MISSING */
  static read(directory: string): PageFiles {
    const files = new Map<string, PageFile>();
    let bytes = 0;
    const take = (path: string) => {
      const type = TYPES[path.slice(path.lastIndexOf(".") + 1)];
      if (type === undefined) return;
      const content = Deno.readFileSync(`${directory}/${path}`);
      bytes += content.length;
      if (files.size >= FILES_MAX || bytes > BYTES_MAX) {
        throw new Error(`it has more than ${FILES_MAX} files or ${BYTES_MAX} bytes`);
      }
      files.set(path, { type, bytes: content });
    };
    try {
      take("index.html");
      for (const { name, isFile } of Deno.readDirSync(`${directory}/assets`)) {
        if (isFile) take(`assets/${name}`);
      }
    } catch (cause) {
      throw new ProblemError("PAGE_MISSING", {
        status: 500,
        detail: `Cannot read the page in ${directory}: ${(cause as Error).message}`,
        action: "Build it: deno task build",
        cause,
      });
    }
    return new PageFiles(files);
  }

  /** An asset; undefined where there is none of this name. */
  asset(path: string): PageFile | undefined {
    return this.#files.get(path);
  }

  /** The page itself, whose addresses begin at `base`, "/" or "/weir/". */
  index(base: string): PageFile {
    const { type, bytes } = this.#files.get("index.html")!;
    const text = new TextDecoder().decode(bytes).replaceAll("__BASE__", base);
    return { type, bytes: new TextEncoder().encode(text) };
  }
}
