/**
 * Files behind `-f`: a file, a directory (its .yaml, .yml and .json files in order of name), `-` for stdin.
 *
 * @module
 */
import type { ManifestFile } from "@weir/proto/lab";
import { type CommandIo, UsageError } from "./context.ts";

/** Reads every file of the paths. */
export async function readManifests(paths: string[], io: CommandIo): Promise<ManifestFile[]> {
  const files: ManifestFile[] = [];
  for (const path of paths) {
    if (path === "-") {
      files.push({ file: "stdin", directory: Deno.cwd(), text: await io.readStdin() });
      continue;
    }
    const info = await Deno.stat(path).catch(() => undefined);
    if (info === undefined) throw new UsageError(`Cannot read ${path}: there is no such file or directory`);
    if (!info.isDirectory) {
      files.push(await readOne(path));
      continue;
    }
    const names: string[] = [];
    for await (const entry of Deno.readDir(path)) {
      if (entry.isFile && /\.(ya?ml|json)$/.test(entry.name)) names.push(entry.name);
    }
    if (names.length === 0) throw new UsageError(`Cannot read ${path}: no .yaml, .yml or .json file in it`);
    for (const name of names.sort()) files.push(await readOne(`${path.replace(/\/+$/, "")}/${name}`));
  }
  return files;
}

async function readOne(path: string): Promise<ManifestFile> {
  const absolute = await Deno.realPath(path);
  return {
    file: path,
    directory: absolute.slice(0, absolute.lastIndexOf("/")) || "/",
    text: await Deno.readTextFile(path),
  };
}
