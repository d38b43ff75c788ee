"""The exercises of the notebooks: a function to write, and a check that says what is wrong with it,
not only that it is.

    from minippo.exercises.token_logprobs import exercise
    exercise.check(my_function)

One module per exercise. Each holds the right answer and the mistakes that people make with it,
every one a function of its own; an answer that gives the numbers of a mistake is told which mistake
it is. Reading such a module before the notebook's exercise is solved spoils the exercise.
"""
