"use strict";
// The page is whole without its script. With it the tables follow the method that is chosen, and
// packets, fields and bytes can be walked. All text goes into the page as text, never as HTML.

const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// Return what session_data.py packed for a session, with the places of its packets and fields.
async function unpack(block) {
  const stream = new Blob([fromBase64(JSON.parse(block.textContent))]).stream();
  const json = await new Response(stream.pipeThrough(new DecompressionStream("deflate"))).text();
  const data = JSON.parse(json);
  data.bytes = fromBase64(data.bytes);
  for (const method of data.methods) method.levels = new Int8Array(fromBase64(method.levels).buffer);
  const hidden = new Uint8Array(data.bytes.length);
  for (const [first, end] of data.hidden) hidden.fill(1, first, end);
  let place = 0;
  for (const packet of data.packets) {
    packet.bytes = data.bytes.subarray(place, place + packet.length);
    packet.hidden = hidden.subarray(place, place + packet.length);
    packet.place = place;
    place += packet.length;
    let start = 0;
    packet.fields = packet.fields.map(([name, end, value]) => {
      const field = { name: data.names[name], start, end, value };
      start = end;
      return field;
    });
  }
  return data;
}

// The level of the largest attribution, as in session_data.py.
const FULL = 31;

const levelsOf = (method, packet) => method.levels.subarray(packet.place, packet.place + packet.length);

// A level's square is a byte's part of the largest one.
const byteShare = (method, level) => method.top * (level / FULL) ** 2;

// The eight steps of colour that report.css has: p1..p8 for the verdict, n1..n8 against it.
function heatClass(level) {
  const size = Math.abs(level) / FULL;
  return size < 0.05 ? "" : (level > 0 ? "p" : "n") + Math.ceil(8 * size);
}
