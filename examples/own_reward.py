"""Own questions, an own reward with feedback, and Muon with PGPO, on the shipped model.

    python examples/own_reward.py          # a few minutes on two cores; writes runs/own-reward

The same task runs on the command line, with any optimizer of optax by name:

    pgpo train --task examples/own_reward.py:Science --optimizer.name muon \
        --optimizer.learning-rate 3e-4 --evaluation.questions 0 --steps 30 --output runs/own-muon
"""

import optax

import pgpo_jax as pgpo
from pgpo_jax import models, tasks, training
from pgpo_jax.tasks.synthetic import SyntheticQuestions


class Science:
    def questions(self, split, seed):
        source = SyntheticQuestions("physics", split=split, seed=seed)
        return [source[i] for i in range(512 if split == "train" else 48)]

    def grade(self, question, response):
        answer = tasks.extract_answer(response)
        feedback = f"{answer or 'Nothing'} is not right. Choose the formula again."
        right = answer == question.answer
        return tasks.Grade(float(right), answer, "" if right else feedback)


def main(folder: str = "runs/own-reward", steps: int = 30) -> None:
    muon = optax.contrib.muon(3e-4, muon_weight_dimension_numbers=models.muon_dimension_numbers)
    teacher = training.TeacherConfig(rate=0.01, feedback=True)
    rollout = training.RolloutConfig(questions=8, max_prompt=72, max_response=20)
    policy, objective = training.load_policy("tiny"), training.SDPO(teacher)
    trainer = training.Trainer(policy, Science(), objective, pgpo.pgpo(muon), rollout=rollout)
    trainer.fit(folder, steps=steps)


if __name__ == "__main__":
    main()
