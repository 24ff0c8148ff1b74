// How an answer is shown while it is written.

// Makes an element with a class, a text and children.
export function make(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

// A sentence's end, with what closes it.
const SENTENCE = /[.!?…؟۔]["'”’»)\]*_`]*\s+|[。！？]["'”’」』）]*/g;
// What makes a list's item or a heading of a line, and what may still become that.
const MARKER = /^\s*(?:([-*•])|(\d{1,3})[.)]|(#{1,6}))\s+/;
const MAYBE_MARKER = /^\s*(?:[-*•]|\d{1,3}[.)]?|#{1,6}|`{1,2})?\s*$/;
const INLINE = /(\*\*[^*]+\*\*|(?<![\w*])\*[^*\s][^*]*\*|`[^`]+`)/;

// Nodes for a piece of a line, with the emphasis that models like to write.
function inline(piece) {
  return piece.split(INLINE).filter(Boolean).map((part) => {
    if (/^\*\*[^*]+\*\*$/.test(part)) return make("strong", "", part.slice(2, -2));
    if (/^\*[^*]+\*$/.test(part)) return make("em", "", part.slice(1, -1));
    if (/^`[^`]+`$/.test(part)) return make("code", "", part.slice(1, -1));
    return part.replace(/\*\*/g, "");
  });
}

// Shows an answer while it is written. Whole sentences become nodes that a screen reader announces; the sentence that is
// being written is shown apart, hidden from it.
export class Writing {
  constructor(box) {
    this.box = box;
    this.text = "";
    this.rest = ""; // of the line, not yet announced
    this.block = null; // the line's element
    this.code = null; // the element of lines between ```
    this.tail = make("span", "tail");
    this.tail.setAttribute("aria-hidden", "true");
    this.tail.setAttribute("aria-busy", "true");
  }

  add(piece) {
    this.text += piece;
    const lines = (this.rest + piece).split("\n");
    this.rest = lines.pop();
    for (const line of lines) this.endLine(line);
    if (this.code || (!this.block && MAYBE_MARKER.test(this.rest))) return;
    this.rest = this.open(this.rest);
    const whole = this.sentences();
    if (whole > 0) this.say(this.rest.slice(0, whole));
    this.rest = this.rest.slice(whole);
    this.tail.replaceChildren(...inline(this.rest.replace(/[*`]+$/, "")));
  }

  end() {
    this.endLine(this.rest);
    this.rest = "";
    this.tail.remove();
  }

  // The length of the whole sentences that the rest begins with; none that ends within an emphasis.
  sentences() {
    let whole = 0;
    for (const match of this.rest.matchAll(SENTENCE)) {
      const until = match.index + match[0].length;
      if (this.rest.slice(0, until).split("**").length % 2 === 1) whole = until;
    }
    return whole;
  }

  endLine(rest) {
    if (!this.block && rest.trimStart().startsWith("```")) {
      this.code = this.code ? null : this.box.appendChild(make("pre", ""));
      if (this.code) this.code.dir = "ltr";
    } else if (this.code) {
      this.code.append(`${rest}\n`);
    } else if (this.block || rest.trim() !== "") {
      this.say(this.open(rest));
      this.block = null;
    }
  }

  // Makes the line's element, unless there is one, and gives the line without the marker that it begins with.
  open(line) {
    if (this.block) return line;
    const [marker, bullet, number, heading] = MARKER.exec(line) ?? [""];
    this.block = make(bullet || number ? "li" : "p", heading ? "heading" : "");
    this.block.dir = "auto";
    if (number) this.block.value = Number(number);
    this.list(bullet ? "ul" : number ? "ol" : null).append(this.block);
    this.block.append(this.tail);
    return line.slice(marker.length);
  }

  // The list that the answer ends with, or a new one; the answer itself for what is in no list.
  list(kind) {
    const last = this.box.lastElementChild;
    if (!kind || last?.localName === kind) return kind ? last : this.box;
    const made = this.box.appendChild(make(kind, ""));
    made.dir = "auto";
    return made;
  }

  say(piece) {
    this.tail.replaceChildren();
    if (piece !== "") this.tail.before(make("span", "", ...inline(piece)));
  }
}
