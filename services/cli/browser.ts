/** Opens an address that only its owner may see. @module */

/**
 * Opens a browser where there is a screen. That it does not open is no failure: the address was printed.
 *
 * Every user of a machine may read the arguments of its processes. So the browser is not given the address, with its token, but a file
 * of the user's alone that leads there.
 */
export async function openBrowser(url: string): Promise<void> {
  const directory = Deno.env.get("XDG_RUNTIME_DIR");
  if (!directory || (!Deno.env.get("DISPLAY") && !Deno.env.get("WAYLAND_DISPLAY"))) return;
  const path = `${directory}/weir-ui.html`;
  try {
    await Deno.remove(path).catch(() => {});
    await Deno.writeTextFile(path, pageTo(url), { createNew: true, mode: 0o600 });
    new Deno.Command("xdg-open", { args: [path], stdin: "null", stdout: "null", stderr: "null" }).spawn()
      .unref();
  } catch {
    // No xdg-open, or no such directory.
  }
}

function pageTo(url: string): string {
  const text = url.replaceAll("&", "&amp;").replaceAll('"', "&quot;");
  return `<!doctype html><meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0;url=${text}">\n`;
}
