"""Training: over all epochs, and in each over all batches."""

import copy
import hashlib
import math
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

inputs, targets = data["train.inputs"], data["train.targets"]  # SHAPES
torch.manual_seed(SEED)
if uses.convolutions:
    # Convolutions are faster where the channels of a pixel lie side by side in memory.
    model = nn.Sequential(OrderedDict(LAYERS))
else:
    model = nn.Sequential(OrderedDict(LAYERS))
if uses.undecayed:
    # Embeddings are not pulled towards 0 by weight decay.
    undecayed = [parameter for name, parameter in model.named_parameters() if name in UNDECAYED]
    others = [parameter for name, parameter in model.named_parameters() if name not in UNDECAYED]
    groups = [{"params": others}, {"params": undecayed, "weight_decay": 0.0}]
if uses.muon:
    momenta = {name: torch.zeros_like(one) for name, one in model.named_parameters() if one.requires_grad}
else:
    optimizer = OPTIMIZER
if uses.average:
    average = copy.deepcopy(model).requires_grad_(False)
if uses.label_weights:
    # Rare labels weigh more.
    counts = targets.sum(0).clamp(min=1)
    weights = ((len(targets) - counts) / counts).clamp(min=1e-6)
elif uses.class_weights:
    weights = CLASS_WEIGHTS
if uses.units:
    # Errors are measured in standard deviations of the targets.
    units = model.rescale.scale
if uses.improved:
    improved = 0
if uses.plateau:
    lowest_loss, bad_epochs, cuts = math.inf, 0, 0
if uses.score:
    step, best_score = 0, -math.inf
else:
    step = 0
for epoch in range(1, EPOCHS + 1):
    model.train()
    loss_sum = torch.zeros(())
    for index in ORDER.split(BATCH_SIZE):
        if uses.max_steps:
            if step == TOTAL_STEPS:
                break
        if uses.random_layers:
            # What layers draw at random (dropout) is a function of the seed and the step.
            torch.manual_seed(int(random_bits("step", step)[0]))
        batch, wanted = inputs[index], targets[index]
        if uses.changing:
            batch = changed_pictures(batch, index, epoch)
        if uses.moving:
            batch = moved(batch, index, epoch)
        if uses.erasing:
            batch = erased(batch, index, epoch)
        if uses.sounds:
            batch = changed_sounds(batch, index, epoch)
        if uses.wording:
            batch = fewer_words(batch, index, epoch)
        if uses.bf16:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = TRAIN_LOSS
        else:
            loss = TRAIN_LOSS
        loss.backward()  # the gradients: how would each weight change the loss?
        loss_sum.add_(loss.detach(), alpha=len(batch))
        if uses.clip:
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        if uses.cosine:
            share = (1 + math.cos(math.pi * (step / TOTAL_STEPS))) / 2  # falls from 1 to 0 along half a cosine
        if uses.muon:
            muon_step(model, momenta, SHARE)  # change the weights, so that the loss becomes smaller
        if uses.several_groups:
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * SHARE
        elif uses.rates:
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * SHARE
        if uses.muon:
            model.zero_grad()
        else:
            optimizer.step()  # change the weights, so that the loss becomes smaller
            optimizer.zero_grad()
        if uses.average:
            average_in(average, model, step)
        step += 1
        if uses.threads:
            torch.set_num_threads(THREADS_FROM.get(step, torch.get_num_threads()))
    if uses.max_steps:
        seen = min(BATCH_SIZE * (step - (epoch - 1) * STEPS_PER_EPOCH), len(inputs))
    if uses.valid:
        if uses.bf16:
            outputs, wanted = outputs_of(KEPT, data["valid.inputs"], in_16_bits=True), data["valid.targets"]
        else:
            outputs, wanted = outputs_of(KEPT, data["valid.inputs"]), data["valid.targets"]
        if uses.valid_loss:
            valid_loss = float(VALID_LOSS)
        if uses.by_loss:
            print(f"epoch {epoch}: loss {MEAN_LOSS:.4f}, on validation data {valid_loss:.4f}")
            score = -valid_loss
        else:
            score = COUNT_RIGHT
            print(f"epoch {epoch}: loss {MEAN_LOSS:.4f}, right on validation data {score:,} of {len(wanted):,}")
        if uses.improved:
            if score > best_score:
                improved = epoch
        if uses.loose:
            # So few validation examples cannot tell good epochs apart: the latest that may be as good as the best is kept.
            best_score = max(best_score, score)
            if may_be_as_good(score, best_score, len(wanted)):
                best_epoch, best_weights = epoch, {name: values.clone() for name, values in KEPT.state_dict().items()}
        elif uses.keep_best:
            if score > best_score:
                best_score, best_epoch = score, epoch
                best_weights = {name: values.clone() for name, values in KEPT.state_dict().items()}
        elif uses.score:
            best_score = max(best_score, score)
        if uses.patience:
            if epoch - IMPROVED >= PATIENCE:
                print(f"no better since epoch {IMPROVED}: training ends")
                break
    else:
        print(f"epoch {epoch}: loss {MEAN_LOSS:.4f}")
    if uses.plateau:
        # Where the loss does not fall any more, the rate does.
        if PLATEAU_LOSS < lowest_loss * (1 - 1e-4):
            lowest_loss, bad_epochs = PLATEAU_LOSS, 0
        else:
            bad_epochs += 1
        if bad_epochs > PLATEAU_PATIENCE:
            cuts, bad_epochs = cuts + 1, 0
if uses.keep_best:
    print(f"the weights of epoch {best_epoch} are kept")
    KEPT.load_state_dict(best_weights)

if uses.test:
    # The test data are used once, at the end: only then do they say how good the model is on new examples.
    outputs, wanted = outputs_of(KEPT, data["test.inputs"]), data["test.targets"]
    if uses.regression:
        error = outputs.double() - wanted.double()
        print(f"test: mean absolute error {error.abs().mean():.6g}, on {len(wanted):,} examples")
    else:
        if uses.several_labels:
            # An example is right if all of its labels are.
            right = COUNT_RIGHT
        else:
            right = COUNT_RIGHT
        print(f"test: accuracy {right / len(wanted):.2%}, {right:,} of {len(wanted):,} examples")

path = Path(__file__).with_suffix(".weights.safetensors")
save_file({name: values.clone().contiguous() for name, values in KEPT.state_dict().items()}, path)
print(f"the weights in {path.name} are those of the run: {hashlib.sha256(path.read_bytes()).hexdigest() == RUN_WEIGHTS}")
