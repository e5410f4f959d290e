import type { BackendName } from "@sdxs/runtime/backends";
import { stylePhrases } from "../../../recipes/emoji-styles.js";
import {
  quickstartColours,
  quickstartConcepts,
  quickstartStyles,
  quickstartWords,
} from "../../../recipes/emoji/src/quickstart-subset.js";
import { element, paint } from "./elements.js";
import { isSame, type FromWorker, type Picture, type Request, type StyleName } from "./messages.js";
import { Model, type BackendChoice } from "./model.js";
import { ModelView } from "./model-view.js";
import { savePng } from "./save.js";
import { SketchPad, edgesOf } from "./sketch-pad.js";
import { replaceWord, unknownIn } from "./words.js";

/** How long the teacher waits for the next key: chosen, a little longer than between two of them. */
const TYPING_PAUSE_MS = 300;
/** When what was drawn is read out: chosen, so that not every key is. */
const READING_PAUSE_MS = 1000;

const prompt = element("#prompt", HTMLTextAreaElement);
const seed = element("#seed", HTMLInputElement);
const hint = element("#hint", HTMLElement);
const status = element("#status", HTMLElement);
const reason = element("#reason", HTMLElement);
const stop = element("#stop", HTMLButtonElement);
const saver = element("#save", HTMLElement);
const backends = [...document.querySelectorAll<HTMLInputElement>("input[name=backend]")];
const styles = [...document.querySelectorAll<HTMLInputElement>("input[name=style]")];
const others = [...document.querySelectorAll<HTMLButtonElement>("#others button")];
const otherPictures: (Picture | undefined)[] = others.map(() => undefined);

const views = {
  student: new ModelView("student", () => student.open(chosenBackend())),
  teacher: new ModelView("teacher", () => teacher.open(chosenBackend())),
};
const pad = new SketchPad(changed);
const student = new Model("student", showStudent);
const teacher = new Model("teacher", showTeacher);

/** Prompt and seed that the teacher was asked for last. */
let teacherShows: string | undefined;
let teacherPause: ReturnType<typeof setTimeout>;
let readingPause: ReturnType<typeof setTimeout>;

/** Draws what the fields say: the student now, the teacher once the typing pauses. */
function draw(): void {
  student.draw(asked());
  if (teacherShows === teacherAsked()) return; // lines and styles are the student's alone
  teacherShows = teacherAsked();
  stopTeacher();
  teacherPause = setTimeout(() => {
    teacher.draw({ prompt: prompt.value, seed: seed.valueAsNumber });
    stop.hidden = false;
  }, TYPING_PAUSE_MS);
}

/** What the fields say, for the student, with the seed of the figure or another one. */
function asked(of = seed.valueAsNumber): Request {
  const style = (styles.find(({ checked }) => checked)?.value || undefined) as StyleName | undefined;
  return { prompt: prompt.value, seed: of, sketch: pad.sketch, style };
}

const teacherAsked = (): string => `${seed.value} ${prompt.value}`;

function stopTeacher(): void {
  clearTimeout(teacherPause);
  teacher.stop();
  stop.hidden = true;
  views.teacher.busy(undefined);
}

function showStudent(message: FromWorker): void {
  if (message.type === "ready") showBackend(message.backend, message.reason);
  if (message.type !== "picture") {
    views.student.show(message);
    return;
  }
  const place = message.seed - seed.valueAsNumber; // 0: the figure, from 1 on: the row of other seeds
  if (place === 0) {
    views.student.show(message);
    readOut(`The student drew ${message.prompt || "no prompt"}, seed ${message.seed}.`);
  } else {
    views.student.count(message);
  }
  const other = others[place - 1];
  if (other && isSame(message, asked(message.seed))) {
    paint(element(`#others li:nth-child(${place}) canvas`, HTMLCanvasElement), message, "student");
    other.setAttribute("aria-label", `Seed ${message.seed}`);
    other.disabled = false;
    otherPictures[place - 1] = message;
  }
  if (!student.isWaiting && place >= 0 && place < others.length) student.draw(asked(message.seed + 1));
}

function showTeacher(message: FromWorker): void {
  if (message.type === "step" && stop.hidden) return; // of a picture that was given up
  if (message.type === "picture" || message.type === "failed") stop.hidden = true;
  views.teacher.show(message);
}

function showBackend(backend: BackendName, why: string): void {
  reason.textContent = why;
  for (const input of backends) if (input.value === backend && chosenBackend() !== undefined) input.checked = true;
}

/** Undefined: the page chooses. */
function chosenBackend(): BackendChoice {
  return (backends.find(({ checked }) => checked)?.value || undefined) as BackendChoice;
}

function openModels(): void {
  reason.textContent = "Starting.";
  teacherShows = undefined;
  student.open(chosenBackend());
  teacher.open(chosenBackend());
  draw();
}

function showHint(): void {
  hint.replaceChildren(
    ...unknownIn(prompt.value).map(({ word, nearest }) => {
      const line = document.createElement("p");
      line.textContent = `“${word}” is not among the ${quickstartWords.size} words that the models know. `;
      if (nearest === undefined) return line;
      const button = document.createElement("button");
      button.textContent = nearest;
      button.onclick = () => {
        prompt.value = replaceWord(prompt.value, word, nearest);
        prompt.focus();
        changed();
      };
      line.append("Did you mean ", button, "?");
      return line;
    }),
  );
}

function readOut(text: string): void {
  clearTimeout(readingPause);
  readingPause = setTimeout(() => (status.textContent = text), READING_PAUSE_MS);
}

function changed(): void {
  showHint();
  if (seed.validity.valid && seed.value !== "") draw();
}

function chooseSeed(value: number): void {
  seed.valueAsNumber = value;
  changed();
}

async function save(picture: Picture | undefined): Promise<void> {
  if (picture) readOut(`Saved ${await savePng(picture)}.`);
}

prompt.oninput = changed;
prompt.onkeydown = (event) => {
  if (event.key === "Enter") event.preventDefault(); // a prompt is one line
};
seed.oninput = changed;
element("#another", HTMLButtonElement).onclick = () => chooseSeed(Math.floor(Math.random() * 10_000));
stop.onclick = () => {
  stopTeacher();
  teacherShows = undefined;
  views.teacher.tell("Stopped.");
};
for (const input of backends) input.onchange = openModels;
for (const input of styles) input.onchange = changed;
element("#trace", HTMLButtonElement).onclick = () => {
  if (views.student.picture) pad.replace(edgesOf(views.student.picture.image));
};

const pictureOf: Record<string, () => Picture | undefined> = {
  student: () => views.student.picture,
  teacher: () => views.teacher.picture,
};
others.forEach((button, index) => {
  button.onclick = () => chooseSeed(otherPictures[index]!.seed);
  button.id = `other-${index}`;
  pictureOf[button.id] = () => otherPictures[index];
});
for (const source of document.querySelectorAll<HTMLElement>("[draggable]")) {
  source.ondragstart = (event) => event.dataTransfer?.setData("text/plain", source.dataset["of"] ?? source.id);
}
for (const button of saver.querySelectorAll("button")) {
  button.onclick = () => void save(pictureOf[button.dataset["of"]!]!());
}
saver.ondragover = (event) => event.preventDefault();
saver.ondrop = (event) => {
  event.preventDefault();
  void save(pictureOf[event.dataTransfer?.getData("text/plain") ?? ""]?.());
};

element("#things", HTMLElement).textContent = quickstartConcepts.join(", ");
element("#styles", HTMLElement).textContent = quickstartStyles.map((style) => stylePhrases[style]).join(", ");
element("#colours", HTMLElement).textContent = quickstartColours.join(", ");

openModels();
